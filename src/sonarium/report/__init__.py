"""Pictures, sounds and the page that shows what a run learnt; everything works without a network."""
