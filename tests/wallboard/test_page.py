"""The page in a real browser: true, quick with an alarm, and honest when it is old."""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import attrs
import pytest
from aiohttp import web
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from aiophlo import (
    Account,
    CustomerOnHoldError,
    InDoubt,
    NotSent,
    Outcome,
    PhloError,
    Quota,
    Reason,
    Rejected,
    SessionPool,
    WarmTransfer,
)
from aiophlo.observed_events import (
    ActionEnded,
    HandoverEnded,
    HandoverStep,
    ObservedEvent,
    WebhookReceived,
    WebhookResult,
)
from aiophlo.simulator import Simulator
from aiophlo.wallboard import Wallboard, aiohttp_app
from tests.support.doubles import account_of, pool_of
from tests.support.handover_stage import AGENT, CUSTOMER, FIRST, Stage, set_stage
from tests.support.ports import free_port

pytestmark = pytest.mark.long

TRANSFER: Final = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source="+14155550100", to="+14155550101"
)
WALL: Final = {"width": 1920, "height": 1080}
LAPTOP: Final = {"width": 1280, "height": 800}
PHONE: Final = {"width": 390, "height": 844}
GIVEN_UP_FOR_NOTHING: Final = """() => {
  const list = document.body.classList;
  const fits = () => document.documentElement.scrollHeight <= innerHeight;
  const fitsWithout = (kind) => {
    list.remove(kind);
    const fitted = fits();
    list.add(kind);
    return fitted;
  };
  const kinds = ["tight", "crowded", "packed", "terse", "bare"];
  const found = kinds.filter((kind) => list.contains(kind) && fitsWithout(kind));
  const rows = at("handovers").children.length;
  showHandovers(rows + 1);
  if (at("handovers").children.length > rows && fits()) found.push("a row");
  showHandovers(rows);
  return found;
}"""

# Of the requests that are drawn, one in ten was refused.
NINE_GRANTED: Final = """() => {
  const height = (kind) => [...document.querySelectorAll(`#accounts svg ${kind}`)]
    .reduce((sum, one) => sum + one.height.baseVal.value, 0);
  return Math.abs(height(".ours") - 9 * height(".no:not(.mark)")) < 0.01;
}"""

# Changes that a screen reader is told of, in window.changes from now on.
UNQUIET_CHANGES: Final = """(id) => {
  window.changes = [];
  const isQuiet = (node) =>
    (node.closest ? node : node.parentElement)?.closest("[aria-live=off]");
  const note = (all) =>
    changes.push(...all.filter((one) => !isQuiet(one.target)).map((one) => one.type));
  new MutationObserver(note).observe(at(id), {
    childList: true, subtree: true, characterData: true, attributeFilter: ["hidden"],
  });
}"""


@attrs.define
class Screen:
    """A page that is open, and what went wrong in it.

    Attributes:
        page: The page.
        wrong: What its console said.
        hosts: Whom it asked for anything.
    """

    page: Page
    wrong: list[str] = attrs.field(factory=list)
    hosts: set[str] = attrs.field(factory=set)

    async def figure(self, name: str) -> str:
        """Return a figure of the first account."""
        tile = self.page.locator(f'#accounts dd[data-name="{name}"]').first
        return await tile.inner_text()

    async def is_wider_than_the_screen(self) -> bool:
        """Say whether it is to be scrolled sideways."""
        script = "document.documentElement.scrollWidth > window.innerWidth + 1"
        return bool(await self.page.evaluate(script))


@contextlib.asynccontextmanager
async def serving(
    board: Wallboard, port: int = 0, token: str | None = None
) -> AsyncIterator[str]:
    """Serve a wallboard below a path."""
    app = web.Application()
    app.add_subapp("/team/wall", aiohttp_app(board, token=token))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/team/wall/"
    finally:
        await runner.cleanup()


def hold(board: Wallboard, number: int) -> None:
    """Tell a wallboard of so many customers who were left on hold."""
    (account,) = board.pool.accounts
    for name in (f"{one:016x}" for one in range(number)):
        board(HandoverStep(account, name, "on_hold", "ringing"))
        board(HandoverEnded(account, name, "on_hold", 1.0, alarm=True, unseen=1))


@contextlib.asynccontextmanager
async def shown(
    browser: Browser,
    url: str,
    size: dict[str, int] = WALL,
    **options: Any,  # noqa: ANN401 -- Playwright's own
) -> AsyncIterator[Screen]:
    """Open a page, and wait until it is live."""
    context = await browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
    screen = Screen(await context.new_page())
    page = screen.page
    page.on("console", lambda said: screen.wrong.append(said.text))
    page.on("pageerror", lambda error: screen.wrong.append(str(error)))
    page.on("request", lambda asked: screen.hosts.add(asked.url.split("/")[2]))
    await page.goto(url)
    await expect(page.locator("#live")).to_have_text("Live")
    yield screen
    await context.close()


async def transfers(pool: SessionPool, number: int) -> None:
    """Send some, each to a number of its own."""

    async def send(index: int) -> None:
        with suppress(PhloError):
            await pool.send(attrs.evolve(TRANSFER, to=f"+1415556{index:04}"))

    await asyncio.gather(*map(send, range(number)))


async def leave_on_hold(stage: Stage) -> None:
    """Let a customer be on hold with nobody on the line."""
    stage.people_are("ignores", FIRST)
    stage.simulator.answer_next(503, action="abort_transfer", times=None)
    with pytest.raises(CustomerOnHoldError):
        async with stage.consult(bring_back_within=0.1):
            pass


async def test_every_figure_is_the_ledgers(
    simulator: Simulator, browser: Browser
) -> None:
    """A wall that is wrong is worse than none."""
    simulator.answer_next(429, times=2)
    simulator.answer_next(400, to="+14155560003", times=None)
    simulator.fault_next("drop_after_read", to="+14155560007")
    async with (
        pool_of(simulator) as pool,
        serving(board := Wallboard(pool)) as url,
        shown(browser, url) as screen,
    ):
        await transfers(pool, 40)
        await expect(screen.page.locator('dd[data-name="accepted"]')).to_have_text("38")
        ledger = simulator.ledger.as_json()
        requests = ledger["requests"]
        refused = sum(row["answered"] == 429 for row in requests)
        said = {
            name: await screen.figure(name)
            for name in ("accepted", "rejected", "not sent", "in doubt", "429s")
        }
        assert said == {
            "accepted": str(len(ledger["dials"]) - 1),  # but the one in doubt
            "rejected": "1",
            "not sent": "0",
            "in doubt": "1",
            "429s": str(refused),
        }
        chart = await screen.page.locator("#accounts svg title").text_content()
        assert f"{len(requests)} in all" in str(chart)
        assert f"{refused} refused" in str(chart)
        for lane in ("urgent", "awaited", "streamed"):
            assert await screen.figure(f"waiting, {lane}") == "0"
        row = screen.page.locator("#doubts tr")
        await expect(row).to_have_count(1)
        assert "…07" in await row.inner_text()
        (account,) = board.snapshot()["accounts"]
        shown_p50 = await screen.figure("answer p50")
        assert shown_p50 == f"{round(account['answer']['p50'] * 1000)} ms"
        assert screen.wrong == []
        assert screen.hosts == {url.split("/")[2]}


async def test_durations_are_those_of_the_outcomes(
    simulator: Simulator, browser: Browser
) -> None:
    """Half a second on the wall must be half a second that callers waited."""
    account = account_of(simulator, quota=Quota(300, per=5.0))
    async with (
        pool_of(simulator, account) as pool,
        serving(Wallboard(pool)) as url,
        shown(browser, url) as screen,
    ):
        transfers = [attrs.evolve(TRANSFER, to=f"+1415557{n:04}") for n in range(40)]
        outcomes = await asyncio.gather(*map(pool.send, transfers))
        accepted = screen.page.locator('dd[data-name="accepted"]')
        await expect(accepted).to_have_text("40", timeout=15_000)
        seconds = {
            "wait": sorted(one.waited for one in outcomes),
            "answer": sorted(one.seconds - one.waited for one in outcomes),
        }
        assert seconds["wait"][-1] > 0.3
        for name, values in seconds.items():
            for share, index in (("p50", 19), ("p99", 39)):
                shown_text = await screen.figure(f"{name} {share}")
                number, unit = shown_text.split()
                value = float(number) / {"ms": 1000, "s": 1}[unit]
                rounded = {"ms": 0.0005, "s": 0.05}[unit]
                exact = values[index]
                assert abs(value - exact) <= 0.03 * exact + rounded + 0.001


async def test_alarm_shows_within_a_second_at_the_top(browser: Browser) -> None:
    """A customer listens to music meanwhile."""
    told: list[float] = []

    def note(event: ObservedEvent) -> None:
        if isinstance(event, HandoverStep) and event.phase == "on_hold":
            told.append(time.time())

    async with (
        set_stage(observers=[note]) as stage,
        serving(Wallboard(stage.pool)) as url,
        shown(browser, url) as screen,
    ):
        # By the page's own clock: what drives it may be late.
        await screen.page.evaluate(
            "() => { new MutationObserver(() => { window.alarmed ??= Date.now(); })"
            ".observe(at('alarms'), {childList: true}); }"
        )
        alarm = screen.page.locator("#alarms .alarm")
        await leave_on_hold(stage)
        await alarm.wait_for(timeout=10_000)
        shown_at = await screen.page.evaluate("window.alarmed") / 1000
        assert -0.01 < shown_at - told[0] < 1.0
        text = await alarm.inner_text()
        assert "on hold" in text
        assert "Call the customer back" in text
        assert f"Customer …{CUSTOMER[-2:]}" in text
        held = screen.page.locator("#doubts tr.held")
        await expect(held).not_to_have_count(0)
        # Those are aborts, for which no phone rings.
        about = screen.page.locator("#doubts-about")
        await expect(about).to_have_text(
            re.compile(r"^\d+ in ten minutes, done or not: see")
        )
        colour = "e => getComputedStyle(e).backgroundColor"
        red, green, blue = map(
            int, (await alarm.evaluate(colour)).strip("rgb()").split(",")
        )
        assert red > 3 * max(green, blue)
        box = await alarm.bounding_box()
        assert box is not None
        assert box["y"] < 150
        whole = await screen.page.content()
        assert all(number[-6:] not in whole for number in (AGENT, CUSTOMER, FIRST))
        assert "ON HOLD" in await screen.page.title()


async def test_old_data_says_so_within_three_seconds_and_recovers(
    simulator: Simulator, browser: Browser
) -> None:
    """Yesterday's green wall would be believed."""
    port = free_port()
    async with pool_of(simulator) as pool:
        server = contextlib.AsyncExitStack()
        url = await server.enter_async_context(serving(Wallboard(pool), port))
        async with shown(browser, url) as screen:
            stale = screen.page.locator("#stale")
            # By the page's own clock: what drives it may be late.
            await screen.page.evaluate(
                "() => { new MutationObserver(() => { if (!at('stale').hidden)"
                " window.noticed ??= performance.now() - heardAt; })"
                ".observe(at('stale'), {attributes: true}); }"
            )
            await server.aclose()
            await stale.wait_for(timeout=10_000)
            assert 2_000 < await screen.page.evaluate("window.noticed") < 3_000
            assert "OLD DATA" in await stale.inner_text()
            processes = await screen.page.locator("#processes").inner_text()
            assert "coordinator" not in processes  # that there is none is no fault
            await expect(screen.page.locator("#well")).to_be_hidden()
            async with serving(Wallboard(pool), port):
                await expect(stale).to_be_hidden(timeout=10_000)


async def test_wall_whose_token_was_replaced_says_so(
    simulator: Simulator, browser: Browser
) -> None:
    """It would try again for ever, and nobody would know why."""
    port = free_port()
    async with pool_of(simulator) as pool:
        server = contextlib.AsyncExitStack()
        first = serving(Wallboard(pool), port, "a" * 40)
        url = await server.enter_async_context(first)
        async with shown(browser, f"{url}?token={'a' * 40}") as screen:
            await server.aclose()
            stale = screen.page.locator("#stale")
            await expect(stale).to_contain_text("Trying again", timeout=10_000)
            async with serving(Wallboard(pool), port, "b" * 40):
                await expect(stale).to_contain_text(
                    "It wants another token", timeout=10_000
                )
            async with serving(Wallboard(pool), port, "a" * 40):
                await expect(stale).to_be_hidden(timeout=10_000)


async def test_old_data_says_so_wherever_a_phone_is_scrolled_to(
    simulator: Simulator, browser: Browser
) -> None:
    """Below the first screen, figures of an hour ago looked like now's."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)
        hold(board, 14)
        server = contextlib.AsyncExitStack()
        url = await server.enter_async_context(serving(board))
        still = {"reduced_motion": "reduce"}
        async with shown(browser, url, PHONE, **still) as screen:
            page = screen.page
            top = "(at) => document.querySelector(at).getBoundingClientRect().top"
            second = "#alarms .alarm:nth-child(2)"
            await page.evaluate(f"scrollBy(0, ({top})('{second}'))")
            assert abs(await page.evaluate(top, second)) < 1
            await server.aclose()
            stale = page.locator("#stale")
            await stale.wait_for(timeout=10_000)
            await expect(stale).to_be_in_viewport(ratio=1.0)
            await expect(stale).to_contain_text("14 customers may still be on hold.")
            height = await stale.evaluate("e => e.offsetHeight")
            assert height < PHONE["height"] / 8
            assert (
                await page.evaluate(top, second) >= height
            )  # the alarm is not covered

            contrast = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
            found = await Axe().run(page, context="#alarms", options=contrast)
            assert found.violations_count == 0, found.generate_report()

            await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
            await expect(stale).to_be_in_viewport(ratio=1.0)
            assert await page.evaluate(top, "#stale") == 0
            covering = "() => document.elementFromPoint(innerWidth / 2, 9).id"
            assert await page.evaluate(covering) == "stale"
            await page.locator("#summary a").first.focus()
            assert await page.evaluate(top, "#summary a") >= height
            await page.keyboard.press("Enter")  # a jump, which ends at the top
            await expect(page.locator("#warnings")).to_be_focused()
            assert height <= await page.evaluate(top, "#warnings") < 2 * height
            found = await Axe().run(page, options={"runOnly": ["best-practice"]})
            assert found.violations_count == 0, found.generate_report()


async def test_screen_reader_is_told_once_that_data_is_old(
    simulator: Simulator, browser: Browser
) -> None:
    """What is read out again every second leaves no time to hear an alarm."""
    async with pool_of(simulator) as pool:
        server = contextlib.AsyncExitStack()
        url = await server.enter_async_context(serving(Wallboard(pool)))
        async with shown(browser, url) as screen:
            page = screen.page
            await server.aclose()
            await page.locator("#stale").wait_for(timeout=10_000)
            await page.evaluate(UNQUIET_CHANGES, "stale")
            said = await page.locator("#stale").inner_text()
            await expect(page.locator("#stale")).not_to_have_text(said)
            assert await page.evaluate("window.changes") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WALL, PHONE], ids=["wall", "phone"])
async def test_page_can_be_used_by_everybody(
    browser: Browser, scheme: str, size: dict[str, int]
) -> None:
    """Contrast, names, order, regions: as axe-core checks them, with an alarm on."""
    async with (
        set_stage() as stage,
        serving(Wallboard(stage.pool)) as url,
        shown(
            browser, url, size, color_scheme=scheme, reduced_motion="reduce"
        ) as screen,
    ):
        await leave_on_hold(stage)
        await screen.page.locator("#alarms .alarm").wait_for()
        found = await Axe().run(screen.page)
        assert found.violations_count == 0, found.generate_report()
        assert not await screen.is_wider_than_the_screen()
        assert screen.wrong == []


async def test_theme_is_switched_by_keyboard_and_kept(
    simulator: Simulator, browser: Browser
) -> None:
    """A wall in a bright room, and one at night."""
    async with (
        pool_of(simulator) as pool,
        serving(Wallboard(pool)) as url,
        shown(browser, url, color_scheme="light") as screen,
    ):
        page = screen.page
        colour = "getComputedStyle(document.body).backgroundColor"
        light = await page.evaluate(colour)
        await page.keyboard.press("Tab")
        assert "Skip" in await page.locator(":focus").inner_text()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        dark = await page.evaluate(colour)
        assert dark != light
        await page.reload()
        await expect(page.locator("#live")).to_have_text("Live")
        assert await page.evaluate(colour) == dark


async def test_figures_are_legible_from_five_metres(
    simulator: Simulator, browser: Browser
) -> None:
    """On a wall of full HD, 1.2 m wide, 25 mm high are some 40 pixels."""
    async with (
        pool_of(simulator) as pool,
        serving(Wallboard(pool)) as url,
        shown(browser, url) as screen,
    ):
        size = "e => parseFloat(getComputedStyle(e).fontSize)"
        assert await screen.page.locator("#accounts dd").first.evaluate(size) >= 40
        assert await screen.page.locator(".pace b").first.evaluate(size) >= 60
        assert await screen.page.locator("body").evaluate(size) >= 24


async def test_wall_with_many_doubts_and_troubles_is_not_scrolled(
    browser: Browser,
) -> None:
    """Nobody can: what is below the edge isn't there."""
    async with set_stage() as stage:
        board = Wallboard(stage.pool, notice="A rehearsal")
        simulator = stage.simulator
        async with serving(board) as url, shown(browser, url) as screen:
            page = screen.page
            await leave_on_hold(stage)
            simulator.answer_next(429)
            await transfers(stage.pool, 1)
            simulator.fault_next("drop_after_read", action="warm_transfer", times=None)
            await transfers(stage.pool, 12)
            board(WebhookReceived(None, result=WebhookResult.REFUSED))
            board(WebhookReceived(None, result=WebhookResult.UNREADABLE))
            await expect(page.locator("#warnings .warning")).to_have_count(4)
            await expect(page.locator("#more-doubts")).to_have_text(
                re.compile(r"and \d+ more")
            )
            assert await page.locator("#doubts tr").count() <= 8
            first = page.locator("#doubts tr").first
            await expect(first).to_have_class("held")
            clock = page.locator("#doubts td").first
            await expect(clock).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
            await expect(page.locator("#notice")).to_have_text("A rehearsal")
            await expect(page.locator("#webhooks")).to_be_in_viewport()
            cut = "e => e.scrollWidth > e.clientWidth"
            for table in await page.locator(".scroll:visible").all():
                assert not await table.evaluate(cut)
            height = "document.documentElement.scrollHeight"
            assert await page.evaluate(height) <= WALL["height"]
            size = "e => parseFloat(getComputedStyle(e).fontSize)"
            warning = page.locator("#warnings .warning").first
            assert await warning.locator("strong").evaluate(size) >= 34
            assert await warning.locator("p").first.evaluate(size) >= 25
            assert screen.wrong == []
            found = await Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
            for table in await page.locator(".scroll:visible").all():
                assert not await table.evaluate(cut)


@pytest.mark.parametrize("held", [0, 1, 4, 14])
async def test_wall_has_room_for_old_data_and_for_ages_that_grow(
    simulator: Simulator, browser: Browser, held: int
) -> None:
    """What the band, or a line that ten seconds needed, had moved down was cut off."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)
        (account,) = pool.accounts
        hold(board, held)
        phases = ("asking", "ringing", "consulting", "with_partner")
        for number in range(12):
            board(HandoverStep(account, f"{number:08}", phases[number % 4], "asked"))
        doubt = ActionEnded(
            account, InDoubt(action=TRANSFER, reason=Reason.DISCONNECTED)
        )
        for _ in range(12):
            board(doubt)
        server = contextlib.AsyncExitStack()
        url = await server.enter_async_context(serving(board))
        async with shown(browser, url) as screen:
            page = screen.page
            height = "document.documentElement.scrollHeight"
            assert await page.evaluate(height) <= WALL["height"]
            grown = "all => all.forEach(e => { e.dataset.age = 36000; })"
            await page.locator("#phases time").evaluate_all(grown)
            oldest = page.locator("#phases time").first
            await expect(oldest).to_have_text("10 h 0 min")
            assert await page.evaluate(height) <= WALL["height"]
            await server.aclose()
            await page.locator("#stale").wait_for(timeout=10_000)
            assert await page.evaluate(height) <= WALL["height"]
            assert await page.evaluate(GIVEN_UP_FOR_NOTHING) == []
            assert screen.wrong == [] or "ERR_" in screen.wrong[0]


@pytest.mark.parametrize("held", [3, 14, 300])
async def test_wall_with_more_troubles_than_fit_says_how_many_more(
    simulator: Simulator, browser: Browser, held: int
) -> None:
    """A customer on hold who is below the edge is forgotten a second time."""
    accounts = [Account(f"MA{name * 18}", "t" * 40, quota=None) for name in "ABCD"]
    wrong: tuple[Outcome, ...] = (
        Rejected(action=TRANSFER, status=401),
        Rejected(action=TRANSFER, status=403),
        NotSent(action=TRANSFER, reason=Reason.UNREACHABLE),
        NotSent(action=TRANSFER, reason=Reason.EXPIRED),
    )
    async with SessionPool(*accounts, base_url=simulator.base_url) as pool:
        board = Wallboard(pool)
        for number in range(held):
            board(HandoverStep(accounts[0], f"{number:016x}", "on_hold", "ringing"))
        for account, outcome in itertools.product(accounts, wrong):
            board(ActionEnded(account, outcome))
        async with serving(board) as url, shown(browser, url) as screen:
            page = screen.page
            animations = "document.getAnimations().length"
            assert await page.evaluate(animations) <= 1  # each is painted for
            more = page.locator("#more-troubles")
            await expect(more).to_be_visible()
            told = await more.inner_text()
            unseen = sum(map(int, re.findall(r"(\d+) more", told)))
            (kinds,) = re.findall(r"more troubles? \((.+)\)", told)
            counts = [re.findall(r"^\d+", kind) or [1] for kind in kinds.split(", ")]
            number = sum(int(count) for (count,) in counts)
            assert f"{number} more trouble" in told
            assert "Plivo away" in kinds
            cut = "e => e.scrollWidth > e.clientWidth"
            assert not await more.evaluate(cut)
            alarms = page.locator("#alarms .alarm:visible")
            warnings = page.locator("#warnings .warning:visible")
            seen = await alarms.count() + await warnings.count()
            assert seen + unseen == held + len(accounts) * len(wrong)
            assert await alarms.count() >= min(held, 4)
            third = page.locator("#alarms .alarm").nth(2)
            assert f"{2:016x}" in await third.inner_text()
            assert not await third.locator("p:visible").evaluate(cut)
            if unseen_held := held - await alarms.count():
                assert re.search(f"{unseen_held} more customers? on hold", told)
                assert await warnings.count() == 0
            height = "document.documentElement.scrollHeight"
            assert await page.evaluate(height) <= WALL["height"]
            await expect(more).to_be_in_viewport()
            assert not await screen.is_wider_than_the_screen()
            assert screen.wrong == []


@pytest.mark.parametrize("held", [2, 3, 4, 7, 14])
@pytest.mark.parametrize("size", [WALL, LAPTOP], ids=["wall", "laptop"])
async def test_wall_gives_up_nothing_for_which_it_has_room(
    simulator: Simulator, browser: Browser, size: dict[str, int], held: int
) -> None:
    """What to do about dead webhooks was left out above a fifth of empty screen."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)
        (account,) = pool.accounts
        hold(board, held)
        for number in range(6):
            board(HandoverStep(account, f"{number:08}", "ringing", "with_agent"))
        async with serving(board) as url, shown(browser, url, size) as screen:
            page = screen.page
            await expect(page.locator("#phases li").first).to_be_visible()
            assert await page.evaluate(GIVEN_UP_FOR_NOTHING) == []
            if held <= 4:
                advice = page.locator("#warnings .warning p").first
                await expect(advice).to_be_visible()
            assert screen.wrong == []


async def test_figures_stay_legible_where_two_troubles_leave_room(
    simulator: Simulator, browser: Browser
) -> None:
    """They were made small above two fifths of empty screen."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)
        board(WebhookReceived(None, result=WebhookResult.REFUSED))
        board(WebhookReceived(None, result=WebhookResult.UNREADABLE))
        async with serving(board) as url, shown(browser, url) as screen:
            page = screen.page
            await expect(page.locator("#warnings .warning")).to_have_count(2)
            size = "e => parseFloat(getComputedStyle(e).fontSize)"
            assert await page.locator("#accounts dd").first.evaluate(size) >= 40
            assert await page.evaluate(GIVEN_UP_FOR_NOTHING) == []


async def test_phone_says_on_its_first_screen_how_much_is_wrong(
    simulator: Simulator, browser: Browser
) -> None:
    """Below fourteen alarms nobody finds the dead webhook that is behind them all."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)
        (account,) = pool.accounts
        for name in (f"{number:016x}" for number in range(14)):
            step = HandoverStep(account, name, "ringing", "with_agent")
            board(attrs.evolve(step, customer="…12"))
            board(HandoverEnded(account, name, "on_hold", 1.0, alarm=True, unseen=1))
        reduced = {"reduced_motion": "reduce"}
        async with (
            serving(board) as url,
            shown(browser, url, PHONE, **reduced) as screen,
        ):
            page = screen.page
            summary = page.locator("#summary")
            await expect(summary).to_have_text(
                "14 customers on hold. 1 other trouble (no webhooks). Accounts."
            )
            await expect(summary).to_be_in_viewport()
            last = page.locator("#alarms .alarm").last
            assert f"{13:016x}" in await last.inner_text()
            box = await last.bounding_box()
            assert box is not None
            assert box["y"] < 2 * PHONE["height"]
            cut = "e => e.scrollWidth > e.clientWidth"
            assert not await last.locator("p:visible").evaluate(cut)
            masked = last.locator(".masked:visible")  # not broken after its "…"
            await expect(masked).to_have_text("…12")
            await expect(masked).to_have_css("white-space", "nowrap")
            await summary.get_by_text("1 other trouble").click()
            await expect(page.locator("#warnings .warning")).to_be_in_viewport(
                ratio=0.9
            )
            found = await Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            assert not await screen.is_wider_than_the_screen()
            await page.set_viewport_size(WALL)  # type: ignore[arg-type]
            await expect(summary).to_be_hidden()
            assert screen.wrong == []


async def test_one_refused_request_among_many_is_seen_in_the_chart(
    simulator: Simulator, browser: Browser
) -> None:
    """A hairline isn't, from five metres: the chart looked as if all was well."""
    simulator.answer_next(429)
    async with (
        pool_of(simulator) as pool,
        serving(Wallboard(pool)) as url,
        shown(browser, url, LAPTOP) as screen,
    ):
        await transfers(pool, 150)
        mark = screen.page.locator("#accounts svg .mark")
        # The slice that runs is not drawn.
        await expect(mark).to_have_count(1, timeout=10_000)
        box = await mark.bounding_box()
        assert box is not None
        assert box["height"] >= 5


async def test_few_refused_requests_do_not_hide_those_that_were_granted(
    simulator: Simulator, browser: Browser
) -> None:
    """Of a tenth that was refused the chart said that all of it was."""
    simulator.answer_next(429)
    account = account_of(simulator, quota=Quota(300, per=5.0))
    async with (
        pool_of(simulator, account) as pool,
        serving(Wallboard(pool)) as url,
        shown(browser, url) as screen,
    ):
        await transfers(pool, 9)
        svg = screen.page.locator("#accounts svg")
        await expect(svg.locator(".mark")).to_have_count(1, timeout=10_000)
        await screen.page.wait_for_function(NINE_GRANTED, timeout=10_000)
        marks, bars = svg.locator(".mark"), svg.locator("rect:not(.mark)")
        edge = "all => all.map(e => e.y.baseVal.value + e.height.baseVal.value)"
        tops = "all => all.map(e => e.y.baseVal.value)"
        (bottom,) = await marks.evaluate_all(edge)
        quota = await svg.locator(".limit").evaluate("e => e.y1.baseVal.value")
        assert bottom < quota < min(await bars.evaluate_all(tops)) - 20
        assert await marks.evaluate_all(tops) == [0]  # no part of a bar, as it seems


async def test_key_of_the_chart_is_not_torn_apart_on_a_phone(
    simulator: Simulator, browser: Browser
) -> None:
    """Two dashes at the end of a line are no key."""
    simulator.answer_next(429)
    account = account_of(simulator, quota=Quota(300, per=5.0))
    async with (
        pool_of(simulator, account) as pool,
        serving(Wallboard(pool)) as url,
        shown(browser, url, PHONE) as screen,
    ):
        await transfers(pool, 1)
        parts = screen.page.locator("#accounts .key span")
        await expect(parts.nth(1)).to_have_text("■ 1 refused (429)")
        tops = await parts.evaluate_all("all => all.map(e => e.offsetTop)")
        assert tops[0] == tops[3]
        assert tops[1] == tops[2] > tops[0]
        edge = "all => all.map(e => e.offsetLeft + e.offsetWidth)"
        quota, now = (await parts.evaluate_all(edge))[2:]
        assert abs(quota - now) <= 1  # where the chart ends
        widths = await parts.evaluate_all("all => all.map(e => e.offsetWidth)")
        assert widths[3] < widths[2]
        heights = await parts.evaluate_all("all => all.map(e => e.offsetHeight)")
        assert max(heights) < 1.5 * min(heights)
        assert not await screen.is_wider_than_the_screen()


async def test_text_of_an_account_is_no_markup(
    simulator: Simulator, browser: Browser
) -> None:
    """An error of somebody's would run in every control room."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool, name="<img src=x onerror=document.title='owned'>")
        async with serving(board) as url, shown(browser, url) as screen:
            await expect(screen.page.locator("#processes")).to_contain_text("<img")
            assert await screen.page.title() == "aiophlo wallboard"


async def test_screen_reader_is_not_told_the_same_again(browser: Browser) -> None:
    """An alarm that is announced every second, for its age, is switched off."""
    async with (
        set_stage() as stage,
        serving(Wallboard(stage.pool)) as url,
        shown(browser, url) as screen,
    ):
        await leave_on_hold(stage)
        page = screen.page
        await page.locator("#alarms .alarm").wait_for()
        await page.evaluate(UNQUIET_CHANGES, "alarms")
        at = await page.locator("#alarms time").get_attribute("data-age")
        await expect(page.locator("#alarms time")).not_to_have_attribute(
            "data-age", str(at)
        )
        assert await page.evaluate("window.changes") == []
