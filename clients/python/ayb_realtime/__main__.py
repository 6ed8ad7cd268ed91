"""`python -m ayb_realtime`: the same as `ayb-tail`."""

import sys

from ayb_realtime.tail import main

if __name__ == "__main__":
    sys.exit(main())
