import sys
from pathlib import Path

# Tests of the command line share the module that starts it.
sys.path.insert(0, str(Path(__file__).parent))
