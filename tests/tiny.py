"""Words of the smallest runs and networks that are still real ones; a later word of the same key wins."""

# a run on rendered faces: seconds
RUN = [
    *("data.num_identities=4", "data.images_per_identity=12", "data.pairs_per_fold=2", "image.resize=24"),
    *("image.crop=20", "model.width=16", "teacher.model.width=16", "task.batch_size=8", "schedule.epochs=1"),
    *("logger=csv", "trainer.progress=false", "trainer.score_every=1"),
]
# a module for faces of 24 pixels that a test makes itself
MODULE = ["image.resize=24", "image.crop=16", "model.width=8", "teacher.model.width=16", "task.batch_size=8", "rate=2"]
