"""Exercises that answer back: one checker a task, and a table of what is solved.

`check_exercise("0.2", my_function)` in a lesson finds exercise 0.2 in `lesson_00.py`, tries the function on several
random inputs, and says: not tried yet, right, or wrong and why. What was solved lives in memory, and in a file when
the learner names one to `progress`; nothing leaves the machine.
"""

from inside_bert.exercises.grading import Exercise, Misconception, Verdict
from inside_bert.exercises.record import check_exercise, exercises_of, lesson_numbers, progress

__all__ = [
    "Exercise",
    "Misconception",
    "Verdict",
    "check_exercise",
    "exercises_of",
    "lesson_numbers",
    "progress",
]
