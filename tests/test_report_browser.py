"""The page in a browser: filters, details, tokens, keys, colours, and text that means harm."""

from __future__ import annotations

import json

import pytest
from report_browser import PHONE, Explorer, start
from report_runs import EVIL, loaded, make_run, trajectory, write

from step_ray import schema, store
from step_ray.models import tiny
from step_ray.report.page import build_report
from step_ray.trajectory import content_hash

pytestmark = pytest.mark.browser
BIDI = "\u202e\u2066\x00\x07\ufeff"  # turned around, NUL, a bell, a mark of byte order


@pytest.fixture(scope="module")
def driver():
    driver = start()
    yield driver
    driver.quit()


@pytest.fixture
def explorer(driver):
    return Explorer(driver)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("run"))
    tokenizer = tiny.make_tokenizer(["Thought: I look\nAction: go on Observation: You see"], 600)
    tiny.save(tiny.make_llama(tokenizer), tokenizer, folder / "step" / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stages"]["step"]["outputs"] = {"model": {"path": "step/model"}}
    write(folder / "manifest.json", manifest)
    return folder


@pytest.fixture(scope="module")
def page(run):
    return build_report(run)


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    return build_report(make_run(tmp_path_factory.mktemp("evil"), EVIL + BIDI))


def test_the_overview_comes_first_and_loads_nothing(explorer, page):
    explorer.open(page)
    assert explorer.js("document.querySelector('#overview').checkVisibility()")
    assert not explorer.js("document.querySelector('#explorer').checkVisibility()")
    assert explorer.js("performance.getEntriesByType('resource').length") == 0
    assert explorer.log() == []


def test_filters(explorer, page, run):
    rows = loaded(run)
    explorer.open(page, "#trajectories")
    assert explorer.shown_ids() == [row["id"] for row in rows]
    explorer.pick("stage", "Reflected: dropped")
    explorer.pick("reason", "low reward (")
    explorer.pick("type", "type 2")
    wanted = [
        row["id"]
        for row in rows
        if (row["group"], row["reason"], row["type"])
        == ("reflected/dropped", "low_reward", "type_2")
    ]
    assert explorer.shown_ids() == wanted
    assert len(wanted) > 1
    option = next(text for text in explorer.texts("select[name=type] option") if "2" in text)
    assert option == f"type 2 ({len(wanted)})"
    # The address leads back to the same place.
    address = explorer.js("location.hash")
    explorer.open(page, address)
    assert explorer.shown_ids() == wanted
    explorer.pick("stage", "all")
    explorer.key("x")
    explorer.pick("verdict", "with an error")
    assert explorer.shown_ids() == [row["id"] for row in rows if row["errors"]]
    explorer.pick("kind", "loop")
    assert explorer.shown_ids() == [row["id"] for row in rows if row["kinds"] == ["loop"]]
    assert explorer.log() == []


def test_words_sorting_and_pages(explorer, page, run):
    rows = loaded(run)
    explorer.open(page, "#trajectories")
    explorer.key("/")
    explorer.driver.switch_to.active_element.send_keys("MUG stepvalid_unseen1")
    wanted = [row["id"] for row in rows if "stepvalid_unseen1" in row["task"]]
    assert explorer.shown_ids() == wanted
    assert len(wanted) == 3
    explorer.key("\ue00c")  # Escape
    explorer.key("x")
    assert len(explorer.shown_ids()) == len(rows) == 144
    assert len(explorer.texts(".row[aria-current]")) == 1  # the page of the one that is shown
    explorer.key("[")
    assert len(explorer.texts(".row")) == 100
    explorer.key("]")
    assert len(explorer.texts(".row")) == 44
    assert explorer.texts(".pager [role=status]") == ["101–144 of 144"]
    explorer.open(page, "#trajectories?sort=errors")
    counts = {row["id"]: row["errors"] for row in rows}
    sorted_counts = [counts[key] for key in explorer.shown_ids()]
    assert sorted_counts == sorted(sorted_counts, reverse=True)


def test_detail(explorer, page, run):
    row = next(row for row in loaded(run) if row["errors"] == 2 and row["group"].endswith("kept"))
    explorer.open(page, f"#trajectories?id={row['id']}")
    assert explorer.texts(".turn.error .thought") == ["wrong thought 0", "wrong thought 1"]
    assert explorer.texts(".turn.correction .author") == ["teacher", "teacher"]
    assert explorer.texts(".turn.error .weight") == ["not trained, weight 0"] * 2
    assert len(explorer.texts(".turn.correction .said.trained")) == 2
    assert "reflection" in explorer.texts(".turn.error .review")[0]
    assert explorer.texts(".turn.correct .time") == ["0.10 s"]
    assert any(row["id"] in text for text in explorer.texts(".meta"))
    assert "expert" in explorer.texts(".provenance")[0]
    assert len(explorer.texts(".strip button")) == 5
    shown = explorer.driver.find_elements("css selector", ".strip button.correction")
    shown[1].click()
    assert explorer.js("document.activeElement.id") == "turn-5"


def test_token_view(explorer, page, run):
    row = next(row for row in loaded(run) if row["tokens"] >= 0 and row["errors"] == 2)
    explorer.open(page, f"#trajectories?id={row['id']}")
    explorer.key("t")
    explorer.until("document.querySelector('.stream')")
    weights = set(explorer.js("[...document.querySelectorAll('.token')].map((t) => t.title)"))
    assert any("weight 1 · correction" in title for title in weights)
    assert any("weight 0 · error" in title for title in weights)
    assert not any("weight 1 · error" in title for title in weights)
    assert len(explorer.texts(".stretch.error:not(.on)")) == 2
    assert "wrong thought 0" in explorer.texts(".stretch.error")[0]
    assert explorer.texts(".stretch.error.on") == []
    colours = [
        explorer.js(f"getComputedStyle(document.querySelector('{css} .token')).backgroundColor")
        for css in (".stretch.correct.on", ".stretch.error", ".stretch.correction", ".context")
    ]
    assert len(set(colours)) == 4
    assert "trained (" in explorer.texts(".tokens > p")[0]
    assert explorer.log() == []


def test_keys(explorer, page):
    explorer.open(page)
    explorer.driver.switch_to.active_element.send_keys("l")
    explorer.until("!document.querySelector('#explorer').hidden && stepRay.columns")
    explorer.settled()
    explorer.key("j")
    explorer.key("j")
    assert explorer.js("stepRay.list.current") == 2
    focused = "document.activeElement.matches('.row[aria-current]')"
    assert explorer.js(focused)
    assert explorer.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    explorer.key("\ue013")  # up
    assert explorer.js("stepRay.list.current") == 1
    explorer.pick("verdict", "with an error")
    explorer.key("n")
    assert explorer.js("document.activeElement.matches('.turn.error')")
    explorer.key("n")
    assert explorer.js("document.activeElement.matches('.turn.correction')")
    explorer.key("p")
    assert explorer.js("document.activeElement.matches('.turn.error')")
    explorer.key("?")
    assert explorer.js("document.querySelector('dialog').open")
    assert explorer.js("document.querySelectorAll('dialog dt').length") == 12
    explorer.driver.switch_to.active_element.send_keys("\ue00c")
    explorer.until("!document.querySelector('dialog').open")
    explorer.driver.find_element("css selector", "body").send_keys("o")
    explorer.until("document.querySelector('#explorer').hidden")


def test_hostile_text_is_text(explorer, evil):
    explorer.open(evil)
    assert not explorer.js("document.title").startswith("pwned")
    explorer.open(evil, "#trajectories?verdict=error")
    assert explorer.shown_ids()
    shown = explorer.texts(".turn.correct .observation")[0]
    assert EVIL in shown
    assert "\u202e\u2066\x00\x07" in shown.replace("\ufffd", "\x00")
    assert explorer.js("document.querySelectorAll('main img, main script').length") == 0
    assert not explorer.js("document.title").startswith("pwned")
    assert explorer.js(
        "performance.getEntriesByType('resource').every((r) => r.name.startsWith('file:'))"
    )
    assert explorer.log() == []
    # Even markup in the page itself could not run a script.
    explorer.driver.execute_script(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')"
    )
    assert any("Content Security Policy" in line for line in explorer.log())


def test_dark_and_light(explorer, page):
    seen = {}
    for scheme in ("light", "dark"):
        explorer.scheme(scheme)
        explorer.open(page, "#trajectories?verdict=error")
        for css in (".turn.error .thought", ".meta", ".row .about", ".review dt", ".badge.bad"):
            assert contrast(explorer, css) >= 4.5, (scheme, css)
        seen[scheme] = explorer.js("getComputedStyle(document.body).backgroundColor")
    explorer.scheme("")
    assert seen["light"] != seen["dark"]


def test_phone(explorer, page):
    explorer.open(page, "#trajectories", PHONE)
    assert explorer.js("document.documentElement.scrollWidth") <= PHONE[0]
    assert not explorer.js("document.querySelector('.detail').checkVisibility()")
    explorer.driver.find_elements("css selector", ".row")[3].click()
    explorer.settled()
    assert explorer.js("document.querySelector('.detail').checkVisibility()")
    assert not explorer.js("document.querySelector('.list').checkVisibility()")
    assert explorer.js("document.documentElement.scrollWidth") <= PHONE[0]
    explorer.driver.find_element("css selector", ".back").click()
    assert explorer.js("document.querySelector('.list').checkVisibility()")


def test_a_page_without_its_folder_says_so(explorer, run, tmp_path):
    copy = tmp_path / "index.html"
    copy.write_text(build_report(run).read_text(encoding="utf-8"), encoding="utf-8")
    explorer.driver.get(f"file://{copy}#trajectories")
    said = explorer.until("document.querySelector('.problem')?.textContent")
    assert "has to lie next to this page" in said


def test_several_files_of_index(explorer, tmp_path, monkeypatch):
    monkeypatch.setattr("step_ray.report.chunks.INDEX_ROWS", 7)
    monkeypatch.setattr("step_ray.report.chunks.ROWS_BYTES", 4_000)
    some = [trajectory(f"t{number}") for number in range(30)]
    store.publish(tmp_path / "golden", schema.to_rows(some))
    write(tmp_path / "config.json", {})
    page = build_report(tmp_path)
    last = content_hash("t29")
    explorer.open(page, f"#trajectories?id={last}")
    assert len(explorer.shown_ids()) == 30
    assert explorer.js("document.querySelector('.detail').dataset.shown") == last
    assert len(list(page.parent.glob("data-*/index-*.js"))) == 5


def contrast(explorer, css):
    """WCAG's contrast ratio of an element's text with what is behind it."""
    script = """
        const node = document.querySelector(arguments[0]);
        const parse = (text) => text.match(/[\\d.]+/g).map(Number);
        let behind = node, paper = [0, 0, 0, 0];
        while (behind && !(paper[3] ?? 1)) {
          paper = parse(getComputedStyle(behind).backgroundColor);
          behind = behind.parentElement;
        }
        const light = (rgb) => rgb.slice(0, 3)
          .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
          .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const [a, b] = [light(parse(getComputedStyle(node).color)), light(paper)];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);"""
    return explorer.driver.execute_script(script, css)
