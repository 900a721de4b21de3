"""Build, train and evaluate from plans and run folders; nothing is printed.

from sonarium.runs.build import open_run
from sonarium.runs.plan import default_plan
from sonarium.runs.score import score
from sonarium.runs.train import train

train(default_plan("beta-vae", "tones"), Path("runs/x"), steps=2000)
opened = open_run(Path("runs/x"))        # opened.learner, opened.data.world, opened.data.split
scores = score(opened)
"""
