"""`landscape` commands run in this process."""

import click.testing
from click.testing import CliRunner

from landscape_cli.main import landscape


def run(*words: object, code: int = 0) -> click.testing.Result:
    """Run `landscape WORDS`; a traceback fails the test, whatever the exit code."""
    result = CliRunner().invoke(landscape, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refused(*words: object) -> str:
    """The one line with which a command refuses; exit code 2."""
    result = run(*words, code=2)
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith(("landscape: ", "Error: "))
    assert "Traceback" not in result.output
    return lines[-1]
