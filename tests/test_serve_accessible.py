"""The pages of `resnetlab serve` as a screen reader and a keyboard meet them: Chromium's accessibility tree."""

import re
from itertools import pairwise

import pytest
from made_results import default_study, make_results
from serve_here import chromium, opened, served, until

from resnetlab.analysis.results import Results
from resnetlab.storage import control
from resnetlab.storage.lease import Lease
from resnetlab.storage.results_folder import ResultsFolder

NAMED = ("button", "link", "figure", "table", "image", "progressbar", "dialog", "navigation", "region")


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Of a folder with a study that runs, and one that has ended."""
    place = tmp_path_factory.mktemp("accessible") / "results"
    make_results(place / "runs", default_study(title="A study that runs"), confirm=False)
    make_results(place / "ended", default_study(title="A study that has ended"))
    failed = (trials := Results.open(place / "runs").trials)[trials["status"] == "failed"].iloc[0]
    ResultsFolder.at(place / "runs").write(f"errors/{failed['trial_id']}.txt", b"Traceback")
    with served(place) as server:
        server.folder, server.failed = ResultsFolder.at(place / "runs"), failed["number"]
        yield server


@pytest.fixture(autouse=True)
def driver(server):
    """Of `runs`; what an earlier one was asked does not bind it."""
    lease = Lease(server.folder)
    yield
    lease.release()


def tree(page):
    """What a screen reader is told of the page, in reading order: (role, name, properties)."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    by_id = {node["nodeId"]: node for node in nodes}

    def below(node):
        if not node["ignored"]:
            found = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
            yield node["role"]["value"].lower(), node.get("name", {}).get("value", "").strip(), found
        for child in node.get("childIds", ()):
            if child in by_id:
                yield from below(by_id[child])

    return list(below(nodes[0]))


@pytest.mark.parametrize(
    "path", ["/", "/study/runs", "/study/ended", "/trial/{failed}/runs", "/trial/0/ended", "/report/ended"]
)
def test_everything_has_a_name_and_headings_are_in_order(browser, server, path):
    with opened(browser, server.url) as page:
        until(lambda: "is being read" not in page.locator(".studies").inner_text())
        page.goto(server.base + path.format(failed=server.failed))
        told = tree(page)
        roles = {role for role, *_ in told}
        unnamed = [(role, found) for role, name, found in told if role in NAMED and not name]
        assert unnamed == []
        levels = [found["level"] for role, _, found in told if role == "heading"]
        assert path.startswith("/report") or (levels[0] == 1 and levels.count(1) == 1)
        assert all(after <= before + 1 for before, after in pairwise(levels)), levels
        assert told[0][0] == "rootwebarea" and told[0][1] == page.title()
        wanted = {"/": {"link", "progressbar"}, "/report/ended": {"iframe"}}
        wanted |= {"/study/runs": {"link", "button", "figure", "image", "table", "progressbar", "navigation"}}
        wanted |= {"/study/ended": wanted["/study/runs"] - {"button"}}
        wanted |= {"/trial/0/ended": {"link", "figure", "image", "table", "status"}}
        assert roles >= wanted.get(path, {"link", "status", "region"})  # of a trial that failed: its log


def test_progress_is_a_live_region_that_speaks_at_each_tenth(browser, server):
    with opened(browser, server.url) as page:
        for path, words in [("/study/runs", "running, "), ("/study/ended", "finished, 100% of trials ended")]:
            page.goto(server.base + path)
            live = [found for role, _, found in tree(page) if role == "status"]
            assert live and all(found["live"] == "polite" and found["atomic"] for found in live)
            said = page.locator("#now [role=status]")
            assert said.count() == 1 and said.text_content().startswith(words)
            assert re.fullmatch(r"\w+, \d{0,2}0% of trials ended", said.text_content())
            width = page.locator("#now .heard").evaluate("here => here.getBoundingClientRect().width")
            assert width <= 1  # heard, and not seen


@pytest.mark.parametrize(("what", "keys"), [("pause", ["Tab", "Enter"]), ("stop", ["Shift+Tab", "Space"])])
def test_the_question_before_a_request_is_reached_and_answered_by_keyboard(browser, server, what, keys):
    title = what.capitalize()

    def focused():
        return page.evaluate("document.activeElement.textContent")

    def reach(words):
        for _ in range(60):
            page.keyboard.press("Tab")
            if focused() == words:
                return
        raise AssertionError(f"{words} is not reached by Tab")

    with opened(browser, server.url) as page:
        page.goto(f"{server.base}/study/runs")
        reach(f"{title} …")
        page.keyboard.press("Enter")
        asks = [(role, name) for role, name, _ in tree(page) if role in ("dialog", "button")]
        assert asks[0] == ("dialog", f"{title} runs?")  # what lies behind it cannot be reached
        assert asks[1:] == [("button", "Go on as it is"), ("button", title)]
        assert focused() == "Go on as it is"  # the answer that changes nothing comes first
        page.keyboard.press("Escape")
        assert focused() == f"{title} …" and control.asked(server.folder) is None
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")  # goes on as it is
        assert focused() == f"{title} …" and control.asked(server.folder) is None
        page.keyboard.press("Enter")
        for _ in range(3):  # the browser's own buttons are in the round
            if focused() != title:
                page.keyboard.press(keys[0])
        assert focused() == title
        with page.expect_navigation():
            page.keyboard.press(keys[1])
        assert control.asked(server.folder).what == what
