"""What several candidates warn of is printed once."""

from __future__ import annotations

import io
import logging

from trainer.cli.commands import warn_once


def test_each_warning_is_printed_once() -> None:
    output = io.StringIO()
    handler, logger = logging.StreamHandler(output), logging.Logger("trainer")
    warn_once(handler)
    logger.addHandler(handler)
    for name, count in (("a", 3), ("a", 3), ("b", 3), ("a", 4)):
        logger.warning("%s has %d pictures", name, count)
    assert output.getvalue().splitlines() == ["a has 3 pictures", "b has 3 pictures", "a has 4 pictures"]
