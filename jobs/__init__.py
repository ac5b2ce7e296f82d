"""What `ray job submit -- python -m jobs.X` starts: thin commands over `cluster`."""

from importlib.util import find_spec


def require_packages(extra: str, *modules: str) -> None:
    """ConfigError with the command that installs them when some of these are not there."""
    from lingua.errors import ConfigError  # not above: the doctor says it where `lingua` is another distribution's

    if missing := [module for module in modules if find_spec(module) is None]:
        raise ConfigError(f"not installed: {', '.join(missing)}; pip install 'lingua-batch[{extra}]'")
