"""The report in a real browser: it draws what it should, complains of nothing, and asks the network for nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from baton.dataset.convert import artefacts, manifest
from baton.dataset.mnist import Mnist, Split
from baton.report.write import Writer
from baton.smoke import run_smoke_test
from tests.support.report_samples import (
    BUCKET,
    EXECUTION,
    RUN_ID,
    STARTED,
    DigitsEndpoint,
    MemoryS3,
    digit_splits,
    failed_history,
    plan,
    receipt,
    state,
    succeeded_history,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e

SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET = ["--disable-background-networking", "--disable-component-update"]
REASON = "AlgorithmError: k is larger than the data set"


class Histories:
    def __init__(self, events: list[Any]) -> None:
        self.events = events

    def get_paginator(self, name: str) -> Histories:
        return self

    def paginate(self, **request: Any) -> list[Any]:
        return [{"events": self.events}]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports of a succeeded and of a failed run, as files."""
    folder = tmp_path_factory.mktemp("reports")
    train, valid, test = (Split(*pair) for pair in digit_splits())
    mnist, s3 = Mnist(train, valid, test, 1, "0"), MemoryS3()
    for artefact in [*artefacts(mnist), manifest(mnist, {}, {})]:
        s3.put_object(BUCKET, f"runs/{RUN_ID}/{artefact.path}", artefact.content, artefact.content_type)
    summary = run_smoke_test(plan(), s3, DigitsEndpoint(train.images))
    failure = {"Error": "PipelineRunFailed", "Cause": "The pipeline run ended FAILED."}
    failed = state(failure=failure, outcomes=None, receipt=receipt(cause={"error": "JobFailed", "cause": REASON}))
    made = {}
    for name, the_state, history in (
        ("succeeded", state(smoke_test=summary), succeeded_history()),
        ("failed", failed, failed_history()),
    ):
        writer = Writer(s3, Histories(history), "aws", "eu-west-1", BUCKET, "bt-")
        writer.write(EXECUTION, the_state, "0", STARTED + timedelta(seconds=881))
        made[name] = folder / f"{name}.html"
        made[name].write_bytes(s3.objects[BUCKET, f"runs/{RUN_ID}/report/report.html"])
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = os.environ.get("BATON_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    wanted = "these tests need chromium: install it (apt-get install chromium), or name one in BATON_CHROMIUM"
    if not executable and not os.environ.get("CI"):
        pytest.skip(f"no browser on this machine; {wanted}")
    assert executable, wanted
    # Imported here: it takes most of a second, and one of the workers needs it.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=[*SWITCHES, *QUIET])
        yield launched
        launched.close()


class Visit:
    """One look at a page, with everything that it complained of and asked for."""

    def __init__(self, browser: Browser, path: Path, width: int = 1100, scheme: Any = "light") -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    @property
    def text(self) -> str:
        return self.page.inner_text("body")


@pytest.mark.parametrize("name", ["succeeded", "failed"])
@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (360, "dark")])
def test_the_page_is_quiet_and_fits(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    visit = Visit(browser, pages[name], width, scheme)
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith("data:")] == [pages[name].as_uri()]
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.close()


def test_digits_and_matrix_are_drawn(browser: Browser, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["succeeded"])
    drawn = visit.page.eval_on_selector_all(".digits img", "all => all.map(i => [i.naturalWidth, i.clientWidth > 20])")
    assert drawn == [[28, True]] * 10
    matrix = visit.page.locator("section[aria-labelledby=confusion] svg")
    table = visit.page.locator("section[aria-labelledby=confusion] table")
    columns = table.locator("thead th").count() - 1
    assert columns >= 10
    assert matrix.locator("rect.ground").count() == 10 * columns
    shown = sum(int(text) for text in matrix.locator("text.count").all_text_contents())
    assert shown == 50
    assert not table.is_visible()
    visit.page.click("text=The matrix as a table")
    assert table.is_visible()
    assert sum(int(cell) for cell in table.locator("td").all_text_contents()) == shown
    visit.page.close()


def test_a_darker_cell_has_the_larger_share_of_its_row(browser: Browser, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["succeeded"])
    cells = visit.page.eval_on_selector_all(
        "svg rect.cell", "all => all.map(c => [+c.getAttribute('fill-opacity'), +c.nextElementSibling.textContent])"
    )
    assert len(cells) > 8
    assert all(0 < share <= 1 and count > 0 for share, count in cells)
    full = [share for share, _ in cells if share == 1]
    assert len(full) < len(cells)
    visit.page.close()


def test_states_stand_where_and_as_long_as_they_ran(browser: Browser, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["succeeded"])
    boxes = {
        row.locator("span").first.inner_text(): row.locator("i").bounding_box()
        for row in visit.page.locator(".states li").all()
    }
    tuning, training = boxes["Await tuning"], boxes["Await training"]
    assert tuning
    assert training
    assert training["x"] == pytest.approx(tuning["x"] + tuning["width"], abs=3)
    assert tuning["width"] / training["width"] == pytest.approx(510 / 90, rel=0.1)
    visit.page.close()


def test_the_cause_of_a_failure_is_seen_without_scrolling(browser: Browser, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["failed"], width=360)
    assert REASON in visit.text
    box = visit.page.locator(".alarm p").bounding_box()
    assert box
    assert box["y"] + box["height"] < 900
    visit.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, pages: dict[str, Path], scheme: str) -> None:
    visit = Visit(browser, pages["succeeded"], scheme=scheme)
    ratios = visit.page.evaluate(CONTRAST)
    assert len(ratios) > 50
    assert min(ratio for ratio, _ in ratios) >= 4.5, sorted(ratios)[:5]
    visit.page.close()


# https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio of every element that has text of its own, against its ground.
CONTRAST = """() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const hasText = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  return [...document.querySelectorAll('main *')].filter(e => !e.closest('svg') && hasText(e)).map(e => {
    const [a, b] = [light(channels(getComputedStyle(e).color)), light(ground(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 40)];
  });
}"""


def test_it_prints_on_paper_with_nothing_cut_off(browser: Browser, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["succeeded"])
    visit.page.emulate_media(media="print")
    assert visit.page.pdf(format="A4").startswith(b"%PDF")
    visit.page.set_viewport_size({"width": 794, "height": 1123})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 794
    visit.page.close()
