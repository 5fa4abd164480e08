"""A real model under llama.cpp, which takes its memory at the start and runs so many requests at once."""

from pathlib import Path

import pytest

from cli.calibrate.calibrate import look
from cli.calibrate.question import Question
from cli.calibrate.rising import measured
from cli.demo import MODEL, demo_model, is_installed
from consumers.upstream.base import Limits
from consumers.upstream.openai import OpenAIUpstream
from core.calibration import Level, recommended
from tests.servers import free_port

SLOTS = 2
TOKENS = 12

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="the demo model is not installed: `make demo` does it"
)


async def test_a_real_model_is_measured_and_what_waits_for_a_slot_is_seen(tmp_path: Path) -> None:
    told: list[Level] = []
    async with demo_model(tmp_path, free_port(), slots=SLOTS) as url:
        upstream = OpenAIUpstream(url, None, Limits())
        try:
            question = Question(MODEL, tokens=TOKENS)
            found = await measured(upstream, question, {}, look, 2.0, 2 * SLOTS, told.append)
        finally:
            await upstream.aclose()
    assert [level.concurrency for level in found.levels[:3]] == [1, 2, 3], found.notes
    assert tuple(told) == found.levels
    assert all(level.tokens_per_second > 1 for level in found.levels)
    one, *_, most = found.levels
    assert most.answers >= most.concurrency
    assert most.first_token_p95_ms > one.first_token_ms > 0
    assert 1 <= recommended(found.levels, found.memory) <= 2 * SLOTS
