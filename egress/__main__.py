"""`python -m egress`: the same as `egress`."""

import sys

from egress.cli import main

sys.exit(main())
