import sys
from pathlib import Path

# Tests of models share the engine that stands in for the real one.
sys.path.insert(0, str(Path(__file__).parent))
