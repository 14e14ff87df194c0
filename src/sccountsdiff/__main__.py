"""``python -m sccountsdiff``."""

from sccountsdiff.cli import app

app(prog_name="sccountsdiff")
