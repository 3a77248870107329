"""The LightningModules: one for each task, on one base."""
