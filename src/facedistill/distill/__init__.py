"""What passes from the teacher to the student: targets (the loss terms) and the frozen teacher."""
