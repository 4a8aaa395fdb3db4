"""The real console with a clock that stands still, so that its screens can be compared.

`--stock` leaves out our own output layer. Everything else goes to `console.main`.
"""

from __future__ import annotations

import sys

from console import main
from tests.tui.recorded import NOW

if __name__ == "__main__":
    stock = "--stock" in sys.argv
    main([argument for argument in sys.argv[1:] if argument != "--stock"], now=lambda: NOW, lean=not stock)
