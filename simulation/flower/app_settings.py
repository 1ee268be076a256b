"""What a user's own Flower app says of itself, in its ``pyproject.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulation.config.errors import ConfigError

if TYPE_CHECKING:
    from simulation.config.app import AppRun


@dataclass(frozen=True)
class FlowerApp:
    """What an app's ``pyproject.toml`` says: its name, components and run configuration."""

    name: str
    server: str
    client: str
    run_config: dict[str, Any]


def read_app(run: AppRun) -> FlowerApp:
    """Read and check an app's ``pyproject.toml``, as ``flwr run`` would.

    Raises:
        ConfigError: naming what is wrong with it.
    """
    import click

    from simulation.flower import private

    load_and_validate = private.project_reader()
    parse_config_args, get_fused_config_from_dir = private.run_config_readers()
    folder = run.app.resolve()
    if not (folder / "pyproject.toml").is_file():
        raise ConfigError(f"app must be a folder with a pyproject.toml, got {str(run.app)!r}")
    try:
        config, _ = load_and_validate(folder / "pyproject.toml")
    except (ValueError, ImportError, SyntaxError) as error:
        raise ConfigError(f"app: {' '.join(str(error).split())}") from None
    try:
        overrides = parse_config_args(list(run.run_config))
        fused = get_fused_config_from_dir(folder, overrides)
    except (ValueError, OSError, click.ClickException) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        raise ConfigError(f"run_config: {text}, got {' '.join(run.run_config)!r}") from None
    parts = config["tool"]["flwr"]["app"]["components"]
    if "serverapp" not in parts or "clientapp" not in parts:
        raise ConfigError(f"app must have a serverapp and a clientapp, got {sorted(parts)}")
    return FlowerApp(config["project"]["name"], parts["serverapp"], parts["clientapp"], dict(fused))
