"""`resnetlab serve` of a folder that lies on S3, and through an SSH tunnel."""

import pytest
import s3_here
import ssh_here
from made_results import default_study, make_results
from pyarrow import fs
from serve_here import chromium, opened, served, until

from resnetlab.storage import control
from resnetlab.storage.lease import Lease
from resnetlab.storage.results_folder import ResultsFolder


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.mark.skipif(s3_here.MISSING is not None, reason=str(s3_here.MISSING))
def test_a_folder_on_s3_is_served_and_its_sweep_can_be_asked_to_pause(browser, tmp_path):
    make_results(tmp_path / "made", default_study(title="On S3", search={"trials": 6, "epochs": 3}), confirm=False)
    with s3_here.S3() as s3:
        bucket, _ = fs.FileSystem.from_uri(s3.url("results"))
        fs.copy_files(str(tmp_path), "bkt/results", destination_filesystem=bucket)
        folder = ResultsFolder.at(s3.url("results/made"))
        lease = Lease(folder)
        with served(s3.url("results"), where=tmp_path) as server, opened(browser, server.url, heard=["503"]) as page:
            assert page.locator("header code").inner_text() == "s3://bkt/results"  # without the options of its URL
            until(lambda: "running" in page.locator(".studies").inner_text())
            page.get_by_role("link", name="On S3").click()
            assert page.locator("#trials tbody tr").count() >= 6
            page.get_by_role("button", name="Pause …").click()
            page.get_by_role("button", name="Pause", exact=True).click()
            until(lambda: "Asked to pause" in page.locator("[data-part=asked]").inner_text())
            assert control.asked(folder).what == "pause"
            page.get_by_role("button", name="Resume").click()
            until(lambda: page.get_by_role("button", name="Pause …").count() == 1)
            assert control.asked(folder) is None
            lease.release()
            until(lambda: page.get_by_role("button", name="Pause …").count() == 0)  # nobody is left to obey
            page.locator("#trials tbody a").last.click()
            assert page.locator("#epochs-title").count() == 1 and page.locator("dl.settings dd").count() > 10
            page.goto(f"{server.base}/study/made")
            folder.write("trials.parquet", b"PAR1 nonsense PAR1")
            problem = page.locator("[data-part=problem]")
            until(lambda: "cannot be read now" in problem.inner_text())


@pytest.mark.skipif(ssh_here.MISSING is not None, reason=str(ssh_here.MISSING))
def test_the_pages_go_through_an_ssh_tunnel_that_ends_in_another_port(browser, tmp_path):
    make_results(tmp_path / "results/made", default_study(title="Far away"), confirm=False)
    folder = ResultsFolder.at(tmp_path / "results/made")
    lease = Lease(folder)
    with ssh_here.Sshd() as sshd, served(tmp_path / "results") as server:
        there = int(server.base.rpartition(":")[2])
        with sshd.tunnel(there) as here:
            assert here != there
            with opened(browser, server.url.replace(f":{there}/", f":{here}/"), heard=["ERR_"]) as page:
                page.get_by_role("link", name="Far away").click()
                assert page.url == f"http://127.0.0.1:{here}/study/made"
                until(lambda: "last sign of life" in page.locator("#now").inner_text())
                page.evaluate("() => { window.loadedOnce = true; }")
                lease.release()
                until(lambda: "unfinished" in page.locator("#now").inner_text())  # it follows through the tunnel
                assert page.evaluate("window.loadedOnce") is True
                lease = Lease(folder)
                until(lambda: page.get_by_role("button", name="Stop …").count() == 1)
                page.get_by_role("button", name="Stop …").click()
                page.get_by_role("button", name="Stop", exact=True).click()
                until(lambda: "Asked to stop" in page.locator("[data-part=asked]").inner_text())
                assert control.asked(folder).what == "stop"
        with sshd.tunnel(there) as here:
            context = browser.new_context()
            refused = context.new_page().goto(f"http://127.0.0.1:{here}/study/made")
            assert refused.status == 403 and "Far away" not in refused.text()
            context.close()
    lease.release()
