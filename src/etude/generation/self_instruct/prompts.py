"""What Self-Instruct asks an LLM, in our own words: for tasks, whether a task is classification, and for examples of it."""

from __future__ import annotations

from collections.abc import Sequence

from etude.generation.pool import Task
from etude.generation.quoting import SAID, quoted
from etude.generation.rounds import conversation
from etude.records import Conversation

LISTED = "The list holds {shown} tasks that people gave to an assistant which reads and writes text."
MORE = (
    "Go on with the list: write {new} new tasks, numbered {first} to {last}, one line each. Every one must be of another kind and about "
    "another subject than those above. Vary the verbs, the length and the form; questions are welcome too. Write the tasks only, not "
    "their answers."
)
MORE_CLASSIFICATION = (
    "All of them are classification tasks: the answer is one of a few labels. Go on with the list: write {new} new classification tasks, "
    "numbered {first} to {last}, one line each, of other kinds and about other subjects than those above. Name the possible labels where "
    "you can. Write the tasks only, not their answers."
)
CLASSES = (
    "You are shown one task at a time. Say whether it is a classification task: one whose answer is always one of a few fixed labels, "
    "such as yes or no, a mood, or a topic from a list. Reply with Yes or No and nothing else."
)
WITH_INPUT = (
    "You are shown one task at a time. Write examples of how it is done. An example is a heading `Example 1`, then a line that begins "
    "with `Input:` and holds the material which the task needs, then one that begins with `Output:` and holds the right and complete "
    "answer. Both may go on over several lines. A task that needs no material has one example, without an Input. For others write up to "
    "{most} examples with different, realistic material, never with placeholders."
)
WITH_LABELS = (
    "You are shown one classification task at a time. Write one example for each of its possible labels, up to {most}. An example begins "
    "with a line `Class label:` and the label, and then a line that begins with `Input:` and holds realistic material for which this "
    "label is right. The material may go on over several lines. Where the task needs no material, write the label alone."
)
INPUT_SHOTS = (
    (
        "Name three things to check before a long journey by bicycle.",
        "Example 1\nOutput: Check that both brakes grip, that the tyres are firm, and that the chain is clean and oiled.",
    ),
    (
        "Turn the sentence into a polite question.",
        "Example 1\nInput: Close the window.\nOutput: Would you mind closing the window?\n\n"
        "Example 2\nInput: Send me the minutes by noon.\nOutput: Could you please send me the minutes by noon?",
    ),
    (
        "Work out what each person owes, given the bill and who had what.",
        "Example 1\nInput: Bill: soup 6, pasta 11, salad 8\nLena: soup and salad\nTomas: pasta\n"
        "Output: Lena owes 6 + 8 = 14.\nTomas owes 11.\n\n"
        "Example 2\nInput: Bill: two coffees at 3 each, one cake 5\nAmir: coffee\nJo: coffee and cake\n"
        "Output: Amir owes 3.\nJo owes 3 + 5 = 8.",
    ),
)
"""Tasks with their examples; the first needs no input."""
LABEL_SHOTS = (
    (
        "Decide whether the notice is about a delay, a cancellation or a change of place.",
        "Class label: delay\nInput: The 8.14 to Harwick leaves twenty minutes late because of fog.\n\n"
        "Class label: cancellation\nInput: There is no choir practice tonight; our conductor is ill.\n\n"
        "Class label: change of place\nInput: Thursday's reading takes place in the town hall, not in the library.",
    ),
    (
        "Does the reply answer the question? Say yes or no.",
        "Class label: yes\nInput: Question: When does the shop open?\nReply: At nine on weekdays, at ten on Saturdays.\n\n"
        "Class label: no\nInput: Question: How much is a day ticket?\nReply: You can buy one at the machine by the gate.",
    ),
)
"""Classification tasks with an example a label."""


def for_tasks(id: str, shown: Sequence[Task], new: int, classification: bool) -> Conversation:
    """The request for `new` tasks that go on a numbered list of those shown."""
    listed = "\n".join(f"{number}. {task.instruction.rstrip().removesuffix(':')}" for number, task in enumerate(shown, 1))
    words = (MORE_CLASSIFICATION if classification else MORE).format(new=new, first=len(shown) + 1, last=len(shown) + new)
    return conversation(id, f"{SAID}\n\n{LISTED.format(shown=len(shown))}\n\n{quoted('tasks', listed)}\n\n{words}")


def for_class(id: str, instruction: str, shots: Sequence[Task]) -> Conversation:
    """The question whether a task is classification, after `shots` whose `classification` is known."""
    turns = [turn for shot in shots for turn in (quoted("task", shot.instruction), "Yes" if shot.classification else "No")]
    return conversation(id, *turns, quoted("task", instruction), system=f"{SAID}\n\n{CLASSES}")


def for_instances(id: str, instruction: str, classification: bool, most: int) -> Conversation:
    """The request for examples of a task: labels first for classification, or all would get the likeliest one; inputs first else."""
    system, shots = (WITH_LABELS, LABEL_SHOTS) if classification else (WITH_INPUT, INPUT_SHOTS)
    turns = [turn for task, examples in shots for turn in (quoted("task", task), examples)]
    return conversation(id, *turns, quoted("task", instruction), system=f"{SAID}\n\n{system.format(most=most)}")
