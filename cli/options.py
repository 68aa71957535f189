"""How specs become command-line options, and how bad input becomes one line and exit code 2."""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any

import click

from landscape.errors import InputError
from landscape.fields import Spec

checkpoint_argument = click.argument("checkpoint", type=click.Path())


class OneLineGroup(click.Group):
    """A group whose commands show bad input as one line (exit code 2) and an interrupt as one word (130)."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            _stop(str(error), 2)
        except KeyboardInterrupt:
            _stop("interrupted", 130)
        except MemoryError as error:
            _stop(f"out of memory ({error}). Use a smaller --batch-size or fewer --examples.", 1)
        except BrokenPipeError:
            raise SystemExit(0) from None


class DefaultGroup(click.Group):
    """A group whose command may be left out: `study SPEC.toml` is `study run SPEC.toml`."""

    default = "run"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


def _stop(message: str, code: int) -> typing.NoReturn:
    click.echo("landscape: " + " ".join(message.split()), err=True)
    raise SystemExit(code)


def spec_options(**specs: type[Spec]) -> Callable[[Callable], Callable]:
    """Give a command one option per field of each spec, and hand it the specs built from them by name.

    A field that two specs declare is the later one's option; the earlier spec keeps its default.
    """
    owners = {item.name: (name, item) for name, spec in specs.items() for item in _visible(spec)}

    def decorate(command: Callable) -> Callable:
        def wrapper(**values: Any) -> Any:
            given: dict[str, dict[str, Any]] = {name: {} for name in specs}
            for field, (name, _) in owners.items():
                value = values.pop(field)
                if value is not None:
                    given[name][field] = value
            built = {name: spec(**given[name]) for name, spec in specs.items()}
            return command(**values, **built)

        wrapper.__doc__ = command.__doc__
        wrapper.__name__ = command.__name__
        wrapper.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
        for _, item in reversed(owners.values()):
            wrapper = _option(item)(wrapper)
        return wrapper

    return decorate


def _visible(spec: type[Spec]) -> list[dataclasses.Field]:
    return [item for item in dataclasses.fields(spec) if not item.metadata["hidden"]]  # type: ignore[arg-type]


def _option(item: dataclasses.Field) -> Callable[[Callable], Callable]:
    meta, kind = item.metadata, _scalar(item.type)
    flag = meta["flag"] or "--" + item.name.replace("_", "-")
    if kind is bool:
        return click.option(
            f"{flag}/--no-{flag[2:]}", item.name, default=item.default, help=meta["help"], show_default=True
        )
    if item.name.endswith("_args"):
        return click.option(flag, item.name, multiple=True, callback=pairs, metavar="KEY=VALUE", help=meta["help"])
    repeated = typing.get_origin(item.type) is tuple
    declared: dict[str, Any] = {"type": click.Choice(meta["choices"]) if meta["choices"] else kind}
    if repeated:
        declared |= {"multiple": True}
    declared |= {"default": item.default, "show_default": item.default not in (None, ())}
    return click.option(flag, item.name, help=meta["help"] + _range(meta), **declared)


def _range(meta: Any) -> str:
    signs = {"minimum": "≥", "above": ">", "maximum": "≤", "below": "<"}
    bounds = [f"{sign} {meta[key]:g}" for key, sign in signs.items() if meta[key] is not None]
    return f"  ({', '.join(bounds)})" if bounds else ""


def _scalar(kind: Any) -> type:
    """The type of one value of a field: of `int | None` it is int, of `tuple[float, ...]` float."""
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind


def pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Click callback: repeated KEY=VALUE texts as pairs."""
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", ctx, parameter)
    return tuple((k, v) for k, _, v in (value.partition("=") for value in values))


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Click callback: numbers between commas."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0,100,200", ctx, parameter) from None


def result_options(command: Callable) -> Callable:
    """`--output`, `--overwrite` and `--json`, which every measuring command has."""
    command = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")(
        command
    )
    command = click.option("--overwrite", is_flag=True, help="Replace an existing output file.")(command)
    return click.option(
        "-o", "--output", type=click.Path(dir_okay=False), help="Result file (default: named by what is measured)."
    )(command)
