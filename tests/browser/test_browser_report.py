"""The report of a study, read in a real browser as a person would."""

import itertools
import re

import pytest

from tfplaybook import studies

SPACE = (
    studies.Hyperparameter("learning_rate", "float", "log", 1e-4, 1.0),
    studies.Hyperparameter("units", "int", "linear", 8, 64),
    studies.Hyperparameter("optimizer", "choice", values=("sgd", "adam")),
)
STEPS = [10 * i for i in range(1, 11)]


def row(index):
    """A trial whose loss is best near a learning rate of 0.01; every ninth diverges."""
    place = (index * 0.6180339887 + 0.1) % 1.0
    loss = 0.2 + (place - 0.5) ** 2 + 0.01 * (index % 3)
    is_lost = index % 9 == 8
    return {
        "trial_id": f"{index:04d}",
        "status": "infeasible" if is_lost else "completed",
        "message": "infeasible: loss became nan at step 30" if is_lost else "",
        "objective": None if is_lost else loss,
        "hyperparameters": {
            "learning_rate": 10.0 ** (-4.0 + 4.0 * place),
            "units": 8 + (13 * index) % 57,
            "optimizer": ("sgd", "adam")[index % 2],
        },
        "curves": {
            "val_loss": {"steps": STEPS, "values": [loss + 1.0 / s for s in STEPS]},
            # The better of the two metrics is the other way round.
            "val_accuracy": {"steps": STEPS, "values": [loss - 1.0 / s for s in STEPS]},
        },
    }


def make_study(rows, space=SPACE, **options):
    objective = studies.Objective("val_loss", "min")
    return studies.from_records(rows, objective=objective, space=space, **options)


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    study = make_study(map(row, range(24)), name="round1", goal="Which learning rate?")
    return study.report(tmp_path_factory.mktemp("report") / "report.html", scientific=["optimizer"])


@pytest.fixture
def read(watch):
    """Return a function that opens a report and gives back the page, watched."""
    opened = []

    def open_report(path, **options):
        watched = watch(**options)
        opened.append((watched, path.as_uri()))
        watched.page.goto(path.as_uri())
        return watched.page

    yield open_report
    for watched, address in opened:
        assert watched.problems == []
        assert watched.requests == [address]


def visible_ids(page):
    return page.locator("#table tbody tr:visible th").all_inner_texts()


def plot(page, title):
    return page.locator("figure", has=page.locator("figcaption", has_text=title)).locator("svg")


def fraction_at(svg, label):
    """Return where the tick of this label is, as a fraction of the picture's width."""
    box, tick = svg.bounding_box(), svg.locator("text", has_text=label).first.bounding_box()
    return (tick["x"] + tick["width"] / 2 - box["x"]) / box["width"]


def drag(page, svg, start, end):
    """Drag over the picture, from and to a fraction of its width and height."""
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=4)
    page.mouse.up()


def test_brushing_a_picture_filters_the_others_and_the_table(report, read):
    page = read(report)
    assert len(visible_ids(page)) == 24
    rates = plot(page, "learning_rate")
    drag(page, rates, (fraction_at(rates, re.compile("^0.01$")), 0.02), (0.99, 0.98))
    chosen = visible_ids(page)
    expected = {
        r["trial_id"] for r in map(row, range(24)) if r["hyperparameters"]["learning_rate"] > 0.01
    }
    assert set(chosen) == expected
    assert plot(page, "units").locator(".mark:not(.dim)").count() == len(chosen)
    assert page.locator("#selection").inner_text() == f"{len(chosen)} of 24 trials selected"

    drag(page, plot(page, "In the order"), (0.01, 0.97), (0.5, 0.02))
    assert set(visible_ids(page)) == {i for i in expected if i < "0012"}

    page.click("#clear")
    assert len(visible_ids(page)) == 24
    assert page.locator(".mark.dim").count() == 0
    assert page.locator("#clear").is_disabled()


def test_another_objective_reorders_everything(report, read):
    page = read(report)
    first = visible_ids(page)[0]
    page.select_option("#metric", "val_accuracy")
    assert page.locator("input[value=max]").is_checked()
    losses = {r["trial_id"]: r["objective"] for r in map(row, range(24)) if r["objective"]}
    assert visible_ids(page)[0] == max(losses, key=losses.get) != first
    assert "val_accuracy" in page.locator("#table thead").inner_text()
    assert "about val_loss" in page.locator("#about").inner_text()
    page.check("input[value=min]")
    assert visible_ids(page)[0] == first


def test_a_trial_shows_its_configuration_on_hover_and_its_curves_on_click(report, read):
    page = read(report)
    mark = plot(page, "learning_rate").locator(".mark.second")
    mark.scroll_into_view_if_needed()
    mark.hover()
    second = visible_ids(page)[1]
    assert f"Trial {second}" in page.locator("#tooltip").inner_text()
    assert "optimizer: " in page.locator("#tooltip").inner_text()
    assert page.locator("tr.focused th").inner_text() == second
    mark.click()
    assert page.locator("#trial h3").inner_text().startswith(f"Trial {second}")
    assert page.locator(".curve.opened").count() == 1
    page.mouse.move(0, 0)
    assert page.locator("#tooltip").is_hidden()


def test_a_study_without_curves_can_be_read_either_way_round(tmp_path, read):
    rows = [{**row(i), "curves": {}} for i in range(5)]
    page = read(make_study(rows).report(tmp_path / "report.html"))
    best_first = visible_ids(page)
    page.check("input[value=max]")
    assert visible_ids(page) == best_first[::-1]
    assert page.get_by_text("No curve was recorded.").is_visible()


def test_the_table_is_sorted_by_any_column(report, read):
    page = read(report)
    button = page.get_by_role("button", name="units")
    for order, is_descending in (("ascending", False), ("descending", True)):
        button.click()
        assert page.locator("th[aria-sort]").get_attribute("aria-sort") == order
        cells = page.locator("#table tbody tr td:nth-child(5)").all_inner_texts()
        assert cells == sorted(cells, key=int, reverse=is_descending)


def test_a_finding_shows_its_trials(report, read):
    page = read(report)
    assert page.locator("#next").inner_text()
    page.locator("#findings details").first.evaluate("details => { details.open = true; }")
    button = page.get_by_role("button", name=re.compile("^Show the")).first
    wanted = int(re.search(r"\d+", button.inner_text() + " 1")[0])
    button.click()
    assert len(visible_ids(page)) == wanted


def test_every_control_is_reached_and_used_by_keyboard(report, read):
    page = read(report)
    wanted = page.locator(
        "main :is(a, button, select, input, summary, svg[tabindex], .scroll):visible:not(:disabled)"
    )
    controls = wanted.evaluate_all("all => all.map((e, i) => (e.dataset.stop = i))")
    reached = set()
    for _ in range(len(controls) + 5):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.stop"))
    # Of the two radio buttons Tab reaches the one that is chosen; arrow keys go to the other.
    other = page.locator("input[value=max]").get_attribute("data-stop")
    assert {str(c) for c in controls} - reached == {other}

    plot(page, "learning_rate").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    spoken = page.locator("#announcement").inner_text()
    assert re.match(r"Trial \d{4}, ", spoken)
    page.keyboard.press("Enter")
    assert page.locator("#trial h3").inner_text().split()[1] == spoken[6:10]
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert spoken[6:10] in visible_ids(page)
    assert 3 <= len(visible_ids(page)) < 24
    page.keyboard.press("Escape")
    assert len(visible_ids(page)) == 24


def test_everything_has_a_name_for_a_screen_reader(report, read):
    page = read(report)
    nameless = page.locator("button, select, input, svg[role], [role=region]").evaluate_all(
        """all => all.filter((e) => !(e.textContent || e.ariaLabel || e.labels?.length
            || document.getElementById(e.getAttribute("aria-labelledby"))))
            .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    levels = page.locator("h1, h2, h3, h4").evaluate_all(
        "all => all.map((e) => Number(e.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


PLANTED = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_planted_markup_is_shown_and_not_run(tmp_path, read):
    space = [
        studies.Hyperparameter(PLANTED, "choice", values=(PLANTED, "</script><b>")),
        studies.Hyperparameter("__proto__", "float", "linear", 0.0, 1.0),
    ]
    rows = [
        {
            "trial_id": PLANTED + str(i),
            "objective": 1.0 + i,
            "hyperparameters": {PLANTED: space[0].values[i % 2], "__proto__": 0.1 * i},
            "message": PLANTED,
            "curves": {PLANTED: {"steps": [1, 2], "values": [1.0, 2.0]}},
        }
        for i in range(4)
    ]
    study = make_study(rows, space, name="<b>round1", goal=PLANTED, note="{{data}} " + PLANTED)
    page = read(study.report(tmp_path / "report.html"))
    assert page.locator("h1").inner_text() == page.title() == "<b>round1"
    assert page.locator("#goal").inner_text() == PLANTED
    assert page.locator("#note").inner_text() == "{{data}} " + PLANTED
    assert PLANTED in page.locator("#table").inner_text()
    plot(page, PLANTED).locator(".mark.first").click()
    assert page.locator("img, b, script:not(#data):not([type=module])").count() == 0


def test_the_policy_refuses_requests_and_foreign_scripts(report, watch):
    watched = watch()
    watched.page.goto(report.as_uri())
    refused = watched.page.evaluate(
        """() => new Promise((resolve) => {
            const report = (event) => resolve(event.effectiveDirective);
            document.addEventListener("securitypolicyviolation", report);
            // A request that was not refused fails too, since nobody listens there.
            fetch("http://127.0.0.1:9/").catch(() => setTimeout(resolve, 1000, "nothing"));
        })"""
    )
    assert refused == "connect-src"
    watched.page.evaluate(
        """() => { const s = document.createElement("script"); s.textContent = "window.ran = 1";
            document.body.append(s); }"""
    )
    assert watched.page.evaluate("window.ran") is None
    assert watched.requests == [report.as_uri()]


LONG = "optimizer=adam:" + "a_very_long_name_" * 20
OTHERS = {
    "empty": [],
    "one": [row(0)],
    "running": [
        {**row(i), "status": ("running", "completed")[i > 3], "objective": (None, 0.3 + i)[i > 3]}
        for i in range(6)
    ],
    "only_running": [{**row(0), "status": "running", "objective": None}],
    "failed": [{**row(8), "status": s, "objective": None} for s in ("failed", "infeasible")],
    "plain": [{"trial_id": "a", "objective": 1.0}, {"trial_id": "b", "objective": 2.0}],
}


@pytest.mark.parametrize("name", OTHERS)
def test_studies_of_every_state_are_readable(name, tmp_path, read):
    space = () if name == "plain" else SPACE
    rows = [{**entry, "trial_id": f"{i}"} for i, entry in enumerate(OTHERS[name])]
    page = read(make_study(rows, space, name=name).report(tmp_path / "report.html"))
    assert page.locator("#table tbody tr").count() == len(rows)
    assert page.locator("#selection").inner_text().startswith(f"{len(rows)} of {len(rows)} trial")
    assert page.locator("#next").inner_text()


@pytest.mark.parametrize("name", [LONG, "معدل التعلم", "学习率" * 30])
def test_names_of_any_length_and_script_stay_within_the_page(name, tmp_path, read):
    space = [
        studies.Hyperparameter(name, "choice", values=(name, "b")),
        studies.Hyperparameter(f"{name}2", "float", "linear", 0.0, 1.0),
    ]
    rows = [
        {"trial_id": f"{i}", "objective": 1.0 + i, "hyperparameters": {name: v, f"{name}2": 0.3}}
        for i, v in enumerate((name, "b"))
    ]
    path = make_study(rows, space, name=name, goal=name).report(tmp_path / "report.html")
    for width in (1250, 390):
        page = read(path, viewport={"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").inner_text() == name
        plot(page, name[:10]).first.locator(".mark.first").hover()
        assert name[:10] in page.locator("#tooltip").inner_text()


def test_a_thousand_trials_are_brushed_at_once(tmp_path, read):
    page = read(make_study(map(row, range(1000))).report(tmp_path / "report.html"))
    drag(page, plot(page, "learning_rate"), (0.5, 0.02), (0.99, 0.98))
    assert 400 < len(visible_ids(page)) < 600


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_and_paper_are_produced(scheme, report, read, tmp_path):
    page = read(report, color_scheme=scheme)
    picture = tmp_path / "report.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
    assert page.pdf().startswith(b"%PDF")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
