"""What a benchmark ran on, for the head of its table."""

import os
import platform
from datetime import date
from importlib.metadata import version


def processor():
    """Name of the processor."""
    try:
        with open("/proc/cpuinfo") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or "unknown processor"
    return platform.machine()


def describe(*packages):
    """Return the lines that stand above every table: date, machine, load, versions."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{date.today()}  {processor()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, load {load} (1, 5, 15 min)\n{versions}"
    )
