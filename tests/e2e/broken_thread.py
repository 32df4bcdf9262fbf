"""`python broken_thread.py FILE ARGUMENTS OF evcharge`: once the file is there, the thread that it names ends."""

import ctypes
import sys
import threading
import time
from pathlib import Path

from evcharge.cli import main

FILE = Path(sys.argv.pop(1))


def break_it() -> None:
    while not FILE.exists():
        time.sleep(0.02)
    name = FILE.read_text()
    for thread in threading.enumerate():
        if thread.name == name and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
            return
    sys.stderr.write(f"there is no thread {name}: {[thread.name for thread in threading.enumerate()]}\n")


threading.Thread(target=break_it, daemon=True).start()
main()
