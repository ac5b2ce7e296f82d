"""`jobs.compress` with a slow compressor, as a program of its own that tests can send signals to."""

import sys

from jobs.compress import main
from tests.jobs.compressors import slow

if __name__ == "__main__":
    sys.exit(main(make_compressor=slow))
