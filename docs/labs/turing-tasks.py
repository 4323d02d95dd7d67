# %% [markdown]
# # Lab: say it again, and what came next?
#
# Two more tasks of the paper on Neural Turing Machines. *Repeat copy*: say a sequence again as
# often as a number asks, then say that it is the end. *Associative recall*: items are listed, one
# is shown again, and the one behind it is wanted. Does a machine learn them, how far beyond its
# training does it get, and how does it go about it? Beside it, an LSTM after as many steps.
#
# The sizes are about half of the paper's: one to five vectors, one to six times; two to six items
# as there, but of one vector of six bits in place of three. Bits come in as -1 and 1, so that a
# vector of zeros is silence and nothing else.

# %%
import random

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from attnbook import plotting
from attnbook.book.labs import save
from attnbook.tasks import sequences
from attnbook.training import train
from attnbook.turing_machine import TuringMachine

torch.set_num_threads(1)
SETS = (0, 1, 2)  # of machines that differ in their first numbers
SIZE, TESTED = 16, 50
STEPS = {"repeat": 2000, "recall": 600}
LONGEST, MOST, ITEMS = 5, 6, (2, 6)


def signed(batch, bits):
    """Bits as -1 and 1 where a vector comes in; marks, numbers and silence stay as they are."""
    inputs = batch.inputs.clone()
    vector = (inputs[..., bits:] == 0).all(-1, keepdim=True)
    vector[:, -batch.answers.shape[1] :] = False
    inputs[..., :bits] = torch.where(vector, 2 * inputs[..., :bits] - 1, 0.0)
    return batch._replace(inputs=inputs)


def repeated(size, length, times, generator):
    """Sequences to say again."""
    return signed(sequences.repeat_copy(size, length, times, generator, most=MOST), bits=8)


def listed(size, items, generator):
    """Lists of items, and a question of each."""
    return signed(sequences.associative_recall(size, items, generator, width=1), bits=6)


def drawn(task, seed):
    """Batches to train on, each of sequences of one size."""
    sizes, bits = random.Random(seed), torch.Generator().manual_seed(seed)
    while True:
        if task == "repeat":
            yield repeated(SIZE, sizes.randint(1, LONGEST), sizes.randint(1, MOST), bits)
        else:
            yield listed(SIZE, sizes.randint(*ITEMS), bits)


# %% [markdown]
# ## Machines side by side
#
# The controllers are feed-forward, with 64 units: what a machine knows of the past it has to write
# down, the count of the repetitions too. Of recall many beginnings lead nowhere. So several are
# trained at once, and of each set the machine that does best on sequences of the trained sizes is
# taken, before it is asked for anything longer.
#
# A machine begins with strengths of 0.7, at which no key finds much. Here 3 is added to where the
# strength comes from; with that, more of them get going.


# %%
class SideBySide(nn.Module):
    """Machines of one shape, each with its own parameters, which read the same sequences."""

    def __init__(self, machines):
        super().__init__()
        stacked, _ = stack_module_state(machines)
        self.names, self.stacked = list(stacked), nn.ParameterList(stacked.values())
        self.shape = [machines[0]]  # in a list: its own parameters are not to be trained

    def forward(self, inputs, slots):
        begin = self.shape[0].begin(len(inputs), slots)

        def run(parameters):
            return functional_call(self.shape[0], parameters, (inputs, begin)).output

        return vmap(run)(dict(zip(self.names, self.stacked, strict=True)))

    def alone(self, n):
        """The machine of this number."""
        state = {name: stack[n] for name, stack in zip(self.names, self.stacked, strict=True)}
        self.shape[0].load_state_dict(state)
        return self.shape[0]


class Recurrent(nn.Module):
    """The rival: one layer of LSTM units."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.lstm = nn.LSTM(inputs, 128, batch_first=True)
        self.output = nn.Linear(128, outputs)

    def forward(self, inputs, slots):
        return self.output(self.lstm(inputs)[0])[None]


def loss(model, batch):
    """Cross-entropy of the bits of the answer, of all models together. Training is on 40 slots."""
    said = model(batch.inputs, 40)[:, :, -batch.answers.shape[1] :]
    wanted = batch.answers.expand_as(said)
    return len(said) * nn.functional.binary_cross_entropy_with_logits(said, wanted)


def machine(inputs, outputs):
    """A machine that looks for its keys from the start."""
    made = TuringMachine(inputs, outputs, hidden_dim=64, memory_dim=20)
    with torch.no_grad():
        made.where.bias.unflatten(0, (2, -1))[:, made.memory_dim] += 3.0
    return made


def trained(task, inputs, outputs, count):
    """Machines side by side in sets of `count`, and one LSTM for each set."""
    torch.manual_seed(0)
    machines = SideBySide([machine(inputs, outputs) for _ in range(len(SETS) * count)])
    steps, clip = STEPS[task], len(SETS) * count
    run = {"steps": steps, "lr": 1e-2, "clip": clip**0.5, "title": f"{task}, machines"}
    histories = [train(machines, loss, drawn(task, 0), **run)]
    rivals = []
    for seed in SETS:
        torch.manual_seed(seed)
        rivals.append(Recurrent(inputs, outputs))
        run = {"steps": steps, "lr": 5e-3, "title": f"{task}, LSTM {seed}"}
        histories.append(train(rivals[-1], loss, drawn(task, 0), **run))
    print(*(f"{history.cpu_seconds:.0f}" for history in histories), "CPU seconds")
    return machines, rivals


@torch.no_grad()
def wrong(model, batch):
    """What is said, and which of its bits are wrong, `(models, B, A, O)`; on 128 slots."""
    said = model(batch.inputs, 128)[:, :, -batch.answers.shape[1] :]
    return (said > 0) != (batch.answers > 0.5)


def both(models, batch, part=lambda differs: differs):
    """The share of wrong bits of each machine, and of each LSTM."""
    machines, rivals = models
    found = [part(wrong(model, batch)).float().mean((1, 2, 3)) for model in (machines, *rivals)]
    return found[0], torch.cat(found[1:])


def taken(shares):
    """Of each set the machine with fewest wrong bits: its number."""
    sets = shares.view(len(SETS), -1)
    return [n * sets.shape[1] + int(row.argmin()) for n, row in enumerate(sets)]


# %% [markdown]
# ## Repeat copy
#
# Three machines, each a set by itself.

# %%
repeaters = trained("repeat", 9, 9, 1)


# %%
def vectors(differs):
    """Without the channel of the end, and the step after the last vector."""
    return differs[:, :, :-1, :-1]


def ends(model, batch):
    """The share of answers that say the end at the right step and at no other."""
    return (~wrong(model, batch)[..., -1]).all(2).float().mean(1)


repeats = {}
print("vectors times   wrong bits: machine           LSTM           right end: machine        LSTM")
for length, times in ((5, 3), (5, 6), (10, 6), (5, 8), (5, 12)):
    batch = repeated(TESTED, length, times, torch.Generator().manual_seed(100 * length + times))
    shares, rivals = both(repeaters, batch, vectors)
    machines, lstms = ends(repeaters[0], batch), torch.cat([ends(m, batch) for m in repeaters[1]])
    row = shares, rivals, machines, lstms
    repeats[length, times] = [part.tolist() for part in row]
    print(f"{length:7} {times:5}", *("  " + " ".join(f"{x:7.1%}" for x in part) for part in row))

# %% [markdown]
# ## Associative recall
#
# Twenty-four machines, in three sets of eight.

# %%
recallers = trained("recall", 8, 6, 8)

# %%
sample = [listed(SIZE, items, torch.Generator().manual_seed(items)) for items in range(2, 7)]
start = sum(both(recallers, batch)[0] for batch in sample) / len(sample)
chosen = taken(start)
print("wrong bits of the sample:", *(f"{share:.1%}" for share in start), "  taken:", *chosen)
NUMBERS = (2, 4, 6, 8, 10, 12, 15, 20)
recalls, every = {}, {}
print("items   wrong bits: machine            LSTM")
for items in NUMBERS:
    batch = listed(TESTED, items, torch.Generator().manual_seed(100 + items))
    shares, rivals = both(recallers, batch)
    recalls[items], every[items] = (shares[chosen].tolist(), rivals.tolist()), shares.tolist()
    print(f"{items:5}", *("  " + " ".join(f"{x:7.2%}" for x in part) for part in recalls[items]))

# %%
figure, ax = plotting.axes(
    height=3.4,
    alt="Share of wrong bits against the number of items; two to six are shaded as trained on. Two "
    "machines lie at zero or close to it all along. The third rises to nearly a half, as the three "
    "LSTMs do.",
)
for which, (colour, style, name) in enumerate(
    zip(plotting.COLOURS, ("-", "--"), ("machine", "LSTM"), strict=False)
):
    for n in SETS:
        shares = [recalls[items][which][n] for items in NUMBERS]
        label = name if n == 0 else "_"
        ax.plot(NUMBERS, shares, color=colour, linestyle=style, marker="o", label=label)
ax.axvspan(*ITEMS, color=plotting.MUTED, alpha=0.15, linewidth=0)
ax.set(xlabel="items in the list", ylabel="wrong bits", ylim=(-0.02, 0.58), xlim=(1, 21))
figure.legend(loc="outside upper center", ncols=2)
figure

# %% [markdown]
# ## What the heads do
#
# Of each task one sequence of the trained sizes, by the best of the three machines, in a memory of
# 40 slots.


# %%
@torch.no_grad()
def traced(model, batch):
    """Step by step: what comes in and goes out, what is added and read, where the heads are."""
    state, steps = model.begin(1, slots=40), []
    for x in batch.inputs.unbind(1):
        read = torch.cat([x, state.reads.flatten(1)], dim=1)
        hidden, _ = model.controller(read, state.carried)
        head, (_, added) = model.head(hidden), model.vectors(hidden)
        output, state = model.step(x, state)
        steps.append(
            {
                "input": x,
                "output": output.sigmoid(),
                "added": added[:, 0],
                "read": state.reads[:, 0],
                "reads": state.weights[:, 0],
                "writes": state.weights[:, 1],
                "gate": head.gate[:, 0],
                "strength": head.strength[:, 0],
                "shift": head.shift[:, 0],
            }
        )
    return {key: torch.cat([step[key] for step in steps]) for key in steps[0]}


def told(trace):
    """In words, step by step."""
    for t in range(len(trace["gate"])):
        write, read = (int(trace[key][t].argmax()) for key in ("writes", "reads"))
        sure = [trace[key][t].max().item() for key in ("writes", "reads")]
        gate, strength = trace["gate"][t].item(), trace["strength"][t].item()
        step = int(trace["shift"][t].argmax()) - 1
        print(f"step {t:2}  writes at {write:2} ({sure[0]:.2f})", end="  ")
        print(f"reads at {read:2} ({sure[1]:.2f}), gate {gate:.2f},", end=" ")
        print(f"strength {strength:4.1f}, step {step:+}")


traces = {
    "repeat": traced(
        repeaters[0].alone(min(SETS, key=lambda n: repeats[5, 6][0][n])),
        repeated(1, 5, 4, torch.Generator().manual_seed(7)),
    ),
    "recall": traced(
        recallers[0].alone(min(chosen, key=lambda n: recalls[6][0][chosen.index(n)])),
        listed(1, 6, torch.Generator().manual_seed(7)),
    ),
}
for task, trace in traces.items():
    print(task)
    told(trace)

# %% [markdown]
# How does a machine say five vectors again and again? If it goes back to the start, it reads the
# same slots every five steps. If it writes the vectors anew while it reads them, and then reads on,
# what it *adds* is alike every five steps. The mean cosine of what is added at a step of the answer
# and some steps before, and how far the reading head has come at the end:

# %%
alike, slots_read = [], []
for n in SETS:
    trace = traced(repeaters[0].alone(n), repeated(1, 5, 4, torch.Generator().manual_seed(7)))
    unit = nn.functional.normalize(trace["added"] - trace["added"].mean(0), dim=1)
    alike.append([(unit @ unit.T).diagonal(-lag)[6:].mean().item() for lag in range(1, 9)])
    slots_read.append(len(trace["reads"][5:-1].argmax(1).unique()))
    print(f"machine {n}:", *(f"{cosine:5.2f}" for cosine in alike[-1]), end="   ")
    print(f"{slots_read[-1]} slots read in 21 steps")

# %%
figure, panels = plotting.axes(
    2,
    2,
    height=6.0,
    titles=("repeat: writes at", "repeat: reads at", "recall: writes at", "recall: reads at"),
    alt="Where the heads are, slots against steps. Repeating, both go one slot on at each step, "
    "the reading head after waiting at slot 0. Recalling, the writing head goes back slot by slot, "
    "and the reading head is nowhere in particular until the item is shown again.",
)
for row, trace in zip(panels, traces.values(), strict=True):
    for panel, key in zip(row, ("writes", "reads"), strict=True):
        plotting.picture(panel, trace[key].T)
        panel.set(xlabel="step", ylabel="slot", aspect="auto")
figure

# %%
values, worst = {}, {}
for (length, times), parts in repeats.items():
    for part, (name, say) in zip(
        parts, (("", max), ("lstm_", min), ("end_", min), ("lstm_end_", max)), strict=True
    ):
        # The worst is what speaks most against what is said: of the LSTM, that it does not do it.
        values[f"repeat_{name}{length}_{times}"] = part
        worst[f"repeat_{name}{length}_{times}"] = say
for items in (6, 10, 12, 15, 20):
    for part, name, say in zip(recalls[items], ("", "lstm_"), (max, min), strict=True):
        values[f"recall_{name}{items}"], worst[f"recall_{name}{items}"] = part, say
values["again_5"], worst["again_5"] = [row[4] for row in alike], min
values["slots_read"], worst["slots_read"] = slots_read, min
solved = torch.tensor(every[6]) < 0.01
values["recall_solved"], worst["recall_solved"] = [solved.float().mean().item()], min


def rounded(trace):
    return {key: [[round(v, 3) for v in row] for row in trace[key].tolist()] for key in trace}


summary = save(
    "turing-tasks",
    seeds=SETS,
    steps=STEPS,
    values=values,
    worst=worst,
    shown={
        "traces": {task: rounded(trace) for task, trace in traces.items()},
        "items": list(NUMBERS),
        "recall": recalls,
        "every": every,
        "alike": alike,
    },
)
