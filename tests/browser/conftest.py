"""A real browser without a window, which sees no network, and studies to look at."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        # Tests may run as root in a container, where Chromium has no sandbox.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


class Watched:
    """A page of the browser, and what went wrong in it."""

    def __init__(self, page):
        self.page = page
        self.problems = []
        self.requests = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", lambda dialog: (self.problems.append("dialog"), dialog.dismiss()))

    def _hear(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(message.text)


@pytest.fixture
def watch(browser):
    """Return a function that opens a page; its options are those of a browser context."""
    contexts = []

    def open_page(**options):
        context = browser.new_context(**{"viewport": {"width": 1250, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(10_000)
        return Watched(context.new_page())

    yield open_page
    for context in contexts:
        context.close()
