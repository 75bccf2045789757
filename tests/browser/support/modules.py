"""The page's modules alone in a browser, under the page's policy, without the service."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, Page, Route

STATIC = Path(__file__).resolve().parents[3] / "streams" / "static" / "streams"
ORIGIN = "http://localhost"  # the Web Locks API needs it; all requests are answered here
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SHELL = (
    '<!doctype html><html lang="en"><head><title>Modules</title>'
    '<link rel="stylesheet" href="/page.css"><link rel="stylesheet" href="/parts.css">'
    '<link rel="stylesheet" href="/prose.css"></head>'
    '<body><div id="announcements"></div><main id="here"></main></body></html>'
)


async def modules(browser: Browser) -> Page:
    """A bare page that may `import("/fold.js")` and the like."""
    context = await browser.new_context()
    await context.route(f"{ORIGIN}/**", _serve)
    page = await context.new_page()
    await page.goto(f"{ORIGIN}/")
    return page


async def _serve(route: Route) -> None:
    path = route.request.url.removeprefix(ORIGIN).partition("?")[0]
    if path == "/":
        headers = {"Content-Type": "text/html", "Content-Security-Policy": POLICY}
        await route.fulfill(body=SHELL, headers=headers)
    elif (file := STATIC / path[1:]).is_file():
        await route.fulfill(path=file)
    else:
        await route.fulfill(status=404, body="")
