"""A page of `resnetlab serve`, open in Chromium, while its folder, its disk or whoever asks for it is at fault."""

import shutil
import subprocess
from urllib.parse import quote

import pytest
from made_results import default_study, make_results
from serve_here import chromium, opened, served, until

from resnetlab.storage import control
from resnetlab.storage.lease import Lease
from resnetlab.storage.results_folder import ResultsFolder

MARKUP = "<img src=x onerror=alert(1)>"


def made(place, name="made", **more):
    make_results(place / name, default_study(search={"trials": 4, "epochs": 3}, **more), confirm=False, faults=False)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.mark.campaign
@pytest.mark.experiment(25)
def test_a_page_open_while_its_folder_is_deleted_or_damaged_and_put_back(browser, tmp_path, record):
    place = tmp_path / "results"
    made(place)
    shutil.copytree(place / "made", tmp_path / "whole")
    with served(place) as server, opened(browser, server.url, heard=["503", "ERR_"]) as page:
        page.goto(f"{server.base}/study/made")
        problem, rows = page.locator("[data-part=problem]"), page.locator("#trials tbody tr")
        for damage in ("deleted", "damaged", "without its trials"):
            if damage == "deleted":
                shutil.rmtree(place / "made")
            elif damage == "damaged":
                (place / "made/trials.parquet").write_bytes(b"PAR1 nonsense PAR1")
            else:
                (place / "made/trials.parquet").unlink()
            until(lambda: "cannot be read now" in problem.inner_text())
            assert rows.count() == 4  # as it was
            shutil.copytree(tmp_path / "whole", place / "made", dirs_exist_ok=True)
            until(lambda: problem.inner_text() == "")
            record(25, faults=1)


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.campaign
@pytest.mark.experiment(26)
def test_a_button_pressed_while_the_disk_is_full(browser, small_disk, record):
    made(small_disk)
    folder = ResultsFolder.at(small_disk / "made")
    lease = Lease(folder)
    with served(small_disk) as server, opened(browser, server.url, heard=["409", "ERR_"]) as page:
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))

        def press():
            page.goto(f"{server.base}/study/made")
            assert page.locator("#trials tbody tr").count() == 4  # it is still read
            page.get_by_role("button", name="Pause …").click()
            page.get_by_role("button", name="Pause", exact=True).click()

        press()
        until(lambda: "No space left on device" in page.locator("main").inner_text())
        assert page.locator("h1").inner_text() == "made was not asked to pause" and control.asked(folder) is None
        filler.unlink()
        press()
        until(lambda: "Asked to pause" in page.locator("[data-part=asked]").inner_text())
        assert control.asked(folder).what == "pause"
        record(26, refused=1)
    lease.release()


@pytest.mark.campaign
@pytest.mark.experiment(27)
def test_a_wrong_token_and_markup_as_a_name(browser, tmp_path, record):
    place = tmp_path / "results"
    made(place, MARKUP, title=MARKUP, question=MARKUP)
    with served(place) as server:
        for path in ("/", f"/study/{quote(MARKUP)}", f"/trial/0/{quote(MARKUP)}"):
            for query in ("", "?token=", f"?token={'x' * 43}", f"?token={server.url[-43:][::-1]}"):
                context = browser.new_context()
                answer = context.new_page().goto(f"{server.base}{path}{query}")
                assert answer.status == 403 and answer.text().startswith("This page needs the token")
                assert "img" not in answer.text() and context.cookies() == []
                context.close()
                record(27, refused=1)
        with opened(browser, server.url) as page:  # which fails where a dialog opens or anything else is loaded
            page.get_by_role("link", name=MARKUP).click()
            assert page.locator("h1").inner_text() == MARKUP and page.locator("img").count() == 0
            page.locator("#trials tbody a").first.click()
            assert MARKUP in page.locator("header").inner_text() and page.locator("img").count() == 0
