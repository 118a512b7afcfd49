"""What the README prints runs as printed."""

import asyncio
import re
import sys
from pathlib import Path

from tests.daemon.cluster import Cluster
from tests.daemon.process import clean_environment, until

README = Path(__file__).parents[2] / "README.md"


async def test_the_bot_answers(cluster: Cluster, tmp_path: Path) -> None:
    """Ten lines of Python: whoever says ping is told pong."""
    (ann,) = await cluster.start(1)
    (bot,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    path = tmp_path / "bot.py"
    path.write_text(bot.replace("/tmp/ann/", f"{ann.data}/"))  # noqa: S108  # as printed
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(path), env=clean_environment()
    )

    async def answered() -> bool:
        await ann.flc("say", "ops", "ping")  # Again, until the bot listens.
        return b"bot: pong" in (await ann.flc("log", "ops")).out

    try:
        await until("the bot said pong", answered)
    finally:
        process.kill()
        await process.wait()
