"""`resnetlab serve`: who sees what, in this process; the pages in headless Chromium, one of them with a real sweep."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
from doors import tree
from made_results import default_study, make_results
from serve_here import PATIENCE, chromium, opened, served, until
from test_browser import CONTRAST, DESKTOP, MARKUP, PHONE
from test_real_sweep import STUDY, environment

from resnetlab.analysis.results import Results
from resnetlab.errors import CannotWrite
from resnetlab.report.answer import answer
from resnetlab.report.findings import Findings
from resnetlab.storage import control
from resnetlab.storage.lease import Lease
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.web.access import HEADERS
from resnetlab.web.app import app

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "right-token"
TRACE = 'Traceback:\n  File "<my>.py", line 1\nValueError: <script>alert(1)</script>\n'
NAME = "<img src=x onerror=alert(1)>& 100%?#"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of studies, one of which has a failed trial, and what leads out of it."""
    place = tmp_path_factory.mktemp("serve")
    inside = place / "results"
    make_results(inside / "made", default_study(title=MARKUP, question=MARKUP))
    trials = Results.open(inside / "made").trials
    failed = trials[trials["status"] == "failed"].iloc[0]
    (inside / "made/errors").mkdir()
    (inside / f"made/errors/{failed['trial_id']}.txt").write_text(TRACE)
    (inside / "made/errors/000000000000.txt").symlink_to("/etc/passwd")
    make_results(inside / "deeper" / NAME, default_study(), confirm=False)
    shutil.copytree(inside / "made", inside / "damaged", symlinks=True)
    (inside / "damaged/trials.parquet").write_bytes(b"PAR1 nonsense PAR1")
    make_results(place / "outside/secret", confirm=False)
    (inside / "a-link").symlink_to(place / "outside/secret")
    for name in ("trials.parquet", "segments"):
        made = inside / f"thief-of-{name}"
        shutil.copytree(inside / "made", made, symlinks=True)
        shutil.move(made / name, made.with_suffix(".moved"))
        (made / name).symlink_to(place / "outside/secret" / name)
    return inside


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str


class Client:
    """Asks the server of a folder in this process, without a port."""

    def __init__(self, place: Path | str, read_only: bool = False):
        self.app = app(ResultsFolder.at(place), TOKEN, "c", lambda: True, read_only)

    def ask(self, target: str, method: str = "GET", **headers: str) -> Answer:
        path, _, query = target.partition("?")
        headers = {"host": "127.0.0.1:1", "cookie": f"c={TOKEN}"} | headers
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(name.encode(), text.encode()) for name, text in headers.items()], "scheme": "http",
            "http_version": "1.1", "root_path": "", "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2),
        }  # fmt: skip
        sent, asked = [], [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive():
            return asked.pop() if asked else await asyncio.Event().wait()  # who asked stays to the end

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
        named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], named, text)


@pytest.fixture(scope="module")
def client(folder) -> Client:
    return Client(folder)


PATHS = ("/", "/study/made", "/events/study/made", "/trial/1/made", "/report-file/made", "/style.css", "/nothing")


@pytest.mark.parametrize("path", PATHS)
def test_nobody_without_the_token_sees_anything(client, path):
    texts = set()
    for cookie, query in [("", ""), ("c=wrong", ""), ("d=right-token", ""), ("", "?token="), ("", "?token=right"),
                          (f"c={TOKEN}", "?token=ʀight")]:  # fmt: skip
        for method in ("GET", "POST", "HEAD"):
            answer = client.ask(path + query, method, cookie=cookie)
            assert answer.status == 403
            texts.add(answer.text)
    assert texts == {"This page needs the token that is part of the URL which `resnetlab serve` printed when it was "
                     "started.\n"}  # fmt: skip


def test_the_token_moves_from_the_address_into_a_cookie(client):
    for path, leads in [("/", "/"), ("/study/made", "/study/made"), ("//elsewhere.example/x", "/elsewhere.example/x")]:
        answer = client.ask(f"{path}?token={TOKEN}", cookie="")
        assert (answer.status, answer.headers["location"]) == (303, leads)
        assert answer.headers["set-cookie"] == f"c={TOKEN}; HttpOnly; Path=/; SameSite=lax"
    assert client.ask("/study/made").status == 200


def test_a_host_name_that_was_made_to_lead_here_is_refused_and_a_tunnel_is_not(client):
    for host in ("evil.example", "evil.example:1", "127.0.0.1.evil.example", "", "[::1", "localhost@evil.example"):
        answer = client.ask("/study/made", host=host)
        assert answer.status == 400 and "made" not in answer.text
    assert client.ask("/study/made", host="localhost:9999").status == 200


def test_every_answer_is_strict_about_what_a_page_may_load(client):
    for path in (*PATHS, "/report/made"):
        headers = client.ask(path).headers
        assert headers.keys() >= {name.lower() for name in HEADERS}
        assert headers["content-security-policy"].count("'unsafe") == (2 if path.startswith("/report-file") else 0)
        assert "default-src 'none'" in headers["content-security-policy"]
    assert "sandbox allow-scripts;" in client.ask("/report-file/made").headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    ["/study/../outside/secret", "/study/made/../../outside/secret", "/study/a-link", "/study//etc", "/study/",
     "/study/.", "/trial/1/a-link", "/report-file/a-link", "/study/deeper", "/trial/999999/made",
     "/trial/99999999999999999999/made"],
)  # fmt: skip
def test_no_address_leads_out_of_the_folder_or_to_what_is_not_there(client, path):
    answer = client.ask(path)
    assert answer.status == 404 and "There is no such page" in answer.text


def test_links_in_a_study_that_lead_out_of_the_folder_are_not_followed(client, folder, tmp_path):
    for name in ("trials.parquet", "segments"):
        answer = client.ask(f"/study/thief-of-{name}")
        assert answer.status == 503 and "not followed" in answer.text
    made = tmp_path / "made"
    make_results(made, confirm=False)
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    one = Client(made)
    trial = Results.open(made).trials.iloc[0]
    (made / "errors").mkdir()
    (made / f"errors/{trial['trial_id']}.txt").symlink_to(secret)
    answer = one.ask(f"/trial/{trial['number']}/made")
    assert answer.status == 503 and "SECRET" not in answer.text and "not followed" in answer.text
    (made / f"errors/{trial['trial_id']}.txt").unlink()
    (made / "report.html").symlink_to(secret)
    answer = one.ask("/report-file/made")
    assert answer.status == 503 and "SECRET" not in answer.text
    (made / "report.html").unlink()
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("versions", "plans", "versions/1.json", "plans/abc.json"):
        link = made / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(secret if link.suffix else outside)
        for page in ("study", "report-file"):
            answer = one.ask(f"/{page}/made")
            assert answer.status == 503 and "not followed" in answer.text, name
        link.unlink()
    assert one.ask("/report-file/made").status == 200


def test_a_failed_trial_is_named_with_its_cause_its_log_and_the_command_that_debugs_it(client, folder):
    trials = Results.open(folder / "made").trials
    failed = trials[trials["status"] == "failed"].iloc[0]
    page = client.ask("/study/made").text
    part = page[page.index('id="failed"') :]
    assert f'<a href="/trial/{failed["number"]}/made">Trial {failed["number"]}</a> failed' in part
    assert "worker died: &lt;SIGKILL&gt;" in part and f"errors/{failed['trial_id']}.txt" in part
    assert re.search(rf"trial\S* \S*made {failed['number']} --debug</code>", part)
    log = client.ask(f"/trial/{failed['number']}/made").text
    assert "ValueError: &lt;script&gt;alert(1)&lt;/script&gt;" in log and "<script>alert" not in log
    assert f"{failed['number']} --debug</code>" in log


def test_the_end_of_a_long_log_is_shown_with_the_file_of_all_of_it(tmp_path):
    """Also while the trial runs, or has ended well: what the folder has is shown."""
    make_results(tmp_path / "made", default_study(search={"trials": 4, "epochs": 3}), confirm=False, faults=False)
    first = Results.open(tmp_path / "made").trials.sort_values("number").iloc[0]
    assert first["status"] == "complete"
    one, file = Client(tmp_path), tmp_path / f"made/printed/{first['trial_id']}.txt"
    page = one.ask("/trial/0/made").text
    assert "The trial&#39;s code has printed nothing" in page.replace("'", "&#39;") and str(file.name) not in page
    assert f"sed -sn &#39;/trial {first['trial_id']} begins/,/trial .* begins/p&#39; /tmp/ray/session_2*" in page
    file.parent.mkdir()
    file.write_text("the first line\n" + "x" * 200_000 + "\nthe last <line>\n")
    page = one.ask("/trial/0/made").text
    assert "the last &lt;line&gt;" in page and "the first line" not in page and len(page) < 100_000
    assert "The last 64 kB of 200; the whole file is <code>" in page and f"printed/{file.name}</code>" in page
    file.write_text("all of it")
    page = one.ask("/trial/0/made").text
    assert "all of it</pre>" in page and "the whole file is" not in page and "has printed nothing" not in page
    error = tmp_path / f"made/errors/{file.name}"
    error.parent.mkdir()
    error.write_text("why it failed")
    page = one.ask("/trial/0/made").text
    assert page.index("why it failed</pre>") < page.index("all of it</pre>")


def test_what_is_damaged_is_said_in_one_line_and_the_rest_is_shown(client):
    answer = client.ask("/study/damaged")
    assert answer.status == 503 and "trials.parquet: damaged" in answer.text and "Traceback" not in answer.text
    assert client.ask("/study/made").status == 200


def test_pages_of_recorded_studies_of_every_kind_open():
    """Among them studies of named arms, and one whose sweep was not ended."""
    one, place = Client(ROOT / "results"), ROOT / "results/reference"
    names = [path.parent.name for path in place.glob("*/study.json")]
    assert len(names) > 4
    for name in names:
        page = one.ask(f"/study/reference/{name}")
        assert page.status == 200, name
        first = re.search(r"/trial/\d+/reference/[\w-]+", page.text)[0]
        assert one.ask(first).status == 200
    earlier = one.ask("/study/reference/default?before=10").text
    assert "/trial/9/" in earlier and "/trial/10/" not in earlier[earlier.index('id="trials"') :]


def test_a_folder_behind_a_url_and_one_that_is_itself_a_study(folder):
    for place, name in [(f"fsspec+file://{folder}", "made"), (folder / "made", "made")]:
        one = Client(place)
        assert one.ask(f"/study/{name}").status == 200
        assert "Trial 3" in one.ask(f"/trial/3/{name}").text


@pytest.fixture
def driven(tmp_path):
    """A folder whose driver is this process."""
    make_results(tmp_path / "made", confirm=False)
    lease = Lease(ResultsFolder.at(tmp_path / "made"))
    yield ResultsFolder.at(tmp_path / "made")
    lease.release()


def form(page: str, what: str) -> str:
    return re.search(rf'action="(/ask/{what}/[^"]*)"', page)[1]


def test_only_a_page_of_the_server_itself_can_ask_a_sweep_to_pause(driven):
    one, own = Client(driven.path.parent), {"origin": "http://127.0.0.1:1"}
    target = form(one.ask("/study/made").text, "pause")
    wrong = [
        (target, {}),
        (target, {"origin": "null"}),
        (target, {"origin": "http://127.0.0.1:2"}),
        (target, {"origin": "http://evil.example"}),
        (target.partition("?")[0], own),
        (target[:-1], own),
        (target.replace("pause", "delete"), own),
    ]
    for path, headers in wrong:
        answer = one.ask(path, "POST", **headers)
        assert answer.status == 403, path
    assert one.ask(target, "GET", **own).status == 405
    assert one.ask(target, "POST", cookie="", **own).status == 403
    assert control.asked(driven) is None
    answer = one.ask(target, "POST", **own)
    assert (answer.status, answer.headers["location"]) == (303, "/study/made")
    assert control.asked(driven).what == "pause"
    page = one.ask("/study/made").text
    assert "Asked to pause" in page
    assert one.ask(form(page, "resume"), "POST", **own).status == 303 and control.asked(driven) is None
    assert one.ask(form(page, "stop"), "POST", **own).status == 303 and control.asked(driven).what == "stop"
    assert "data-opens" not in one.ask("/study/made").text  # nothing is left to ask


def test_no_request_is_written_through_a_link_that_leads_out_of_the_folder(driven, tmp_path_factory):
    own, lease = {"origin": "http://127.0.0.1:1"}, driven.path / "lease"
    one = Client(driven.path.parent)
    target = form(one.ask("/study/made").text, "pause")
    outside = shutil.move(lease, tmp_path_factory.mktemp("elsewhere") / "lease")
    lease.symlink_to(outside)
    before = tree(Path(outside))
    answer = one.ask(target, "POST", **own)
    assert answer.status == 409 and "not followed" in answer.text and tree(Path(outside)) == before
    lease.unlink()
    shutil.move(outside, lease)
    assert one.ask(target, "POST", **own).status == 303 and control.asked(driven).what == "pause"


def test_read_only_has_no_buttons_and_takes_no_request(driven):
    target = form(Client(driven.path.parent).ask("/study/made").text, "stop")
    one = Client(driven.path.parent, read_only=True)
    page = one.ask("/study/made").text
    assert "running" in page and "<button" not in page and "<form" not in page and "<dialog" not in page
    assert one.ask(target, "POST", origin="http://127.0.0.1:1").status == 404
    assert control.asked(driven) is None


def test_a_request_that_cannot_be_written_or_has_nobody_to_obey_is_said(driven, monkeypatch):
    one, own = Client(driven.path.parent), {"origin": "http://127.0.0.1:1"}
    target = form(one.ask("/study/made").text, "stop")

    def full(self, name, data):
        raise CannotWrite(f"{self.url}/{name}: cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ResultsFolder, "write", full)
        answer = one.ask(target, "POST", **own)
    assert answer.status == 409 and "No space left on device" in answer.text
    for file in (driven.path / "lease").iterdir():
        file.unlink()
    answer = one.ask(target, "POST", **own)
    assert answer.status == 409 and "no sweep runs there" in answer.text


@pytest.fixture(scope="module")
def server(folder):
    with served(folder) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_pages_can_be_read_on_every_screen(browser, server, folder, viewport, scheme):
    with opened(browser, server.url, viewport, color_scheme=scheme) as page:
        assert page.url == f"{server.base}/"
        until(lambda: "is being read" not in page.locator(".studies").inner_text())
        shown = page.locator(".studies .conclusion").all_inner_texts()
        assert answer(Findings(Results.open(folder / "made"))).words in shown
        text = page.locator(".studies").inner_text()
        assert MARKUP in text and f"deeper/{NAME}" in text and "secret" not in text
        for path in ("/", "/study/made", "/trial/11/made", "/trial/0/made", f"/study/deeper/{quote(NAME)}"):
            page.goto(server.base + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            assert page.evaluate(CONTRAST) == []
            assert page.locator("h1").count() == 1 and page.locator("h1 *").count() == 0
        page.goto(f"{server.base}/study/made")
        assert page.locator("#curves svg").get_attribute("aria-label").startswith("Validation accuracy by epoch")
        page.get_by_role("link", name="The whole report").press("Enter")  # by keyboard
        frame = page.frame_locator("iframe")
        assert frame.locator("h1").inner_text() == MARKUP
        until(lambda: frame.locator("#all tr.row").count() > 10)  # its script runs
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


def test_a_page_says_that_its_folder_is_gone_and_goes_on_when_it_is_back(browser, folder, tmp_path):
    place = tmp_path / "results"
    shutil.copytree(folder / "made", place / "made")
    with served(place) as server, opened(browser, server.url, heard=["ERR_", "503"]) as page:
        page.goto(f"{server.base}/study/made")
        shutil.move(place / "made", tmp_path / "away")
        problem = page.locator("[data-part=problem]")
        until(lambda: "cannot be read now" in problem.inner_text())
        assert page.locator("#trials tbody tr").count() == 50  # as it was
        shutil.move(tmp_path / "away", place / "made")
        until(lambda: problem.inner_text() == "")
        page.goto(f"{server.base}/")
        shutil.rmtree(place)
        until(lambda: "No study is in this folder yet" in page.locator("main").inner_text())


def test_a_page_says_when_the_server_is_gone(browser, folder):
    context = browser.new_context()
    page = context.new_page()
    with served(folder) as server:
        page.goto(server.url)
        page.goto(f"{server.base}/study/made")
        until(lambda: page.locator("#lost").is_hidden())
    until(lambda: "does not answer" in page.locator("#lost").inner_text())
    context.close()


def paint(page) -> float:
    """Milliseconds from the request to the first paint of a page."""
    first = "performance.getEntriesByName('first-contentful-paint')"
    until(lambda: page.evaluate(f"{first}.length"))
    return page.evaluate(f"{first}[0].startTime")


def test_fifty_studies_of_five_thousand_trials_are_painted_at_once(browser, tmp_path):
    search = {"trials": 4979, "epochs": 9, "grace_period": 1, "reduction_factor": 3, "audit": 0.05}
    place = tmp_path / "results"
    make_results(place / "s00", default_study(search=search))
    for number in range(1, 50):
        shutil.copytree(place / "s00", place / f"s{number:02}", copy_function=os.link)
    with served(place) as server, opened(browser, server.url) as page:
        painted = {"list": paint(page)}  # while the studies are being read
        assert page.locator(".studies > li").count() == 50
        began = time.monotonic()
        until(lambda: "is being read" not in page.locator(".studies").inner_text())
        print(f"all read after {time.monotonic() - began:.0f} s")
        assert page.locator(".studies .state.finished").count() == 50
        for name, path in [("list again", "/"), ("study", "/study/s07"), ("trial", "/trial/4000/s07")]:
            page.goto(server.base + path)
            painted[name] = paint(page)
            assert page.evaluate("document.documentElement.outerHTML.length") < 200_000
        print({name: f"{milliseconds:.0f} ms" for name, milliseconds in painted.items()})
        assert max(painted.values()) < 20_000  # 1,000 on a machine with nothing else to do


@pytest.mark.slow
def test_a_page_follows_a_real_sweep_and_stops_it(browser, tmp_path):
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("trials: 6, epochs: 4", "trials: 300, epochs: 30"))
    words = ["--study", "tiny.yaml", "--storage", "results", "--name", "live", "--phase", "explore"]
    with (tmp_path / "said").open("w") as said:
        sweep = subprocess.Popen(
            [sys.executable, str(ROOT / "sweeps/ablation.py"), *words], cwd=tmp_path, env=environment(tmp_path),
            stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
    try:
        place = tmp_path / "results/live"
        until(lambda: sweep.poll() is None and (place / "study.json").exists(), "no sweep")
        with served(tmp_path / "results") as server, opened(browser, server.url) as page:
            page.get_by_role("link", name="live").click()
            until(lambda: "running" in page.locator("#now").inner_text())
            until(lambda: page.locator("#workers tbody a").count() > 0)
            until(lambda: "explores" in page.locator("#workers tbody").inner_text())
            until(lambda: re.search(r"about .+ left", page.locator("#now").inner_text()))
            page.evaluate("() => { window.loadedOnce = true; }")
            curves = page.locator("#curves path.line")
            seen = until(lambda: curves.count())
            until(lambda: curves.count() > seen + 2)
            until(lambda: page.locator("#rungs tbody tr").count() > 1)
            assert page.evaluate("window.loadedOnce") is True  # it was never loaded again
            oldest = page.locator("#trials tbody a").last.get_attribute("href")
            text = unescape(page.evaluate("address => fetch(address).then(answer => answer.text())", oldest))
            printed = re.search(r"<code>(sed -sn '/trial \w+ begins/.*?)</code>", text)[1]
            told = subprocess.run(["bash", "-c", printed], capture_output=True, text=True, timeout=PATIENCE).stdout
            assert re.search(r"trial (\w+) begins", printed)[0] in told
            page.get_by_role("button", name="Pause …").click()
            page.get_by_role("button", name="Pause", exact=True).click()
            assert page.url == f"{server.base}/study/live"
            until(lambda: "paused" in page.locator("#now").inner_text())
            page.get_by_role("button", name="Resume").click()
            until(lambda: page.locator("#workers tbody a").count() > 0)
            page.get_by_role("button", name="Stop …").focus()
            page.keyboard.press("Enter")
            asks = page.get_by_role("dialog", name="Stop live?")
            assert asks.is_visible()
            page.keyboard.press("Escape")
            assert asks.is_hidden() and control.asked(ResultsFolder.at(place)) is None
            page.get_by_role("button", name="Stop …").click()
            asks.get_by_role("button", name="Stop", exact=True).click()
            assert sweep.wait(PATIENCE) == 130
            until(lambda: "unfinished" in page.locator("#now").inner_text())
            assert "No sweep is running here" in page.locator("#workers").inner_text()
            assert page.get_by_role("button", name="Stop …").count() == 0
            page.get_by_role("link", name="The whole report").click()
            until(lambda: page.frame_locator("iframe").locator("#all tr.row").count() > 0)
    finally:
        sweep.kill()
        sweep.wait(PATIENCE)
