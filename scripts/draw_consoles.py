"""Draws docs/pictures anew: the consoles of a small network at work, as they stand in a terminal. Needs tmux."""

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from kafka_broker import Broker, ensure_jars, free_port

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
EVCHARGE = Path(sys.executable).parent / "evcharge"
COLUMNS, ROWS = 100, 28
DEADLINE_S = 40.0
LOOK_EVERY_S = 0.2


def tmux(*arguments: str) -> str:
    return subprocess.run(
        ["tmux", "-L", "pictures", *arguments], check=True, capture_output=True, text=True
    ).stdout


def start(name: str, folder: Path, *arguments: str) -> None:
    command = " ".join([str(EVCHARGE), *arguments])
    tmux("new-session", "-d", "-s", name, "-x", str(COLUMNS), "-y", str(ROWS), "-c", str(folder), command)


def until(name: str, text: str) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while text not in (screen := tmux("capture-pane", "-p", "-t", name)):
        if time.monotonic() > until_s:
            sys.exit(f"{name} does not show {text!r}, but:\n{screen}")
        time.sleep(LOOK_EVERY_S)


def say(name: str, line: str, text: str) -> None:
    """Type a command, and wait until the screen shows this."""
    tmux("send-keys", "-t", name, line, "Enter")
    until(name, text)


def draw(name: str, title: str) -> None:
    screen = tmux("capture-pane", "-e", "-p", "-t", name)
    console = Console(
        width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.from_ansi(screen), end="")
    svg = console.export_svg(title=title, theme=MONOKAI)
    # A picture loads nothing from elsewhere; the reader's own fixed-width font will do.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)
    (PICTURES / f"{name}.svg").write_text(svg, "utf-8")


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    ensure_jars()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        broker = Broker(folder / "kafka", free_port())
        broker.start()
        try:
            play(folder, broker.bootstrap)
        finally:
            subprocess.run(["tmux", "-L", "pictures", "kill-server"], check=False)
            broker.stop()


def play(folder: Path, kafka: str) -> None:
    central, engine, http = free_port(), free_port(), free_port()
    to_kafka = ("--kafka", kafka)
    to_central = ("--central", f"127.0.0.1:{central}")
    listening = ("--host", "127.0.0.1", "--port", str(central), "--http", f"127.0.0.1:{http}")
    start("admin", folder, "central", *listening, *to_kafka, "--open-registration", "--time-scale", "60")
    until("admin", "kafka_joined")
    start(
        "fleet",
        folder,
        "fleet",
        "--count",
        "9",
        "--prefix",
        "MARKET",
        *to_central,
        *to_kafka,
        "--time-scale",
        "20",
    )
    start("engine", folder, "engine", "--port", str(engine), *to_kafka, "--time-scale", "60", "--max-power", "22")
    place = ("--location", "'Harbour, bay 1'", "--price", "0.35")
    start("monitor", folder, "monitor", "CP001", "--engine", f"127.0.0.1:{engine}", *to_central, *place)
    until("admin", "CP001")
    start("driver", folder, "driver", "ana", *to_kafka)
    until("driver", "CP001")
    say("driver", "charge CP001 20", "accepted")
    for number in (2, 3, 7):
        say("admin", f"start MARKET00{number} driver-{number} 30", "accepted")
    say("admin", "out MARKET005", "out of service: MARKET005")
    say("monitor", "status", "charge point CP001 is CHARGING")
    say("engine", "status", "CP001")
    until("driver", "4.")  # kWh, at 11 kW after some twenty seconds
    say("admin", "show CP001", "cost so far")
    draw("admin", "EV_Central: AdminCLI")
    draw("monitor", "EC_CP_M: MonitorCLI and MonitorStatusPanel")
    draw("engine", "EV_CP_E: EngineCLI")
    draw("driver", "EV_Driver: DriverCLI")


if __name__ == "__main__":
    main()
