"""Inside one cell: batches finished before a kill, the bar that moves, and cells cut short."""

import io
import time

import numpy as np
import pytest
import toy_evaluation
from toy_evaluation import full_summary, protocol, record, run, specs, toy_images, toy_subject
from tqdm import tqdm

import gencls.attacks
from gencls import evaluate as evaluation
from gencls.evaluation import batch_loop
from gencls.evaluation.batch_loop import Work, over_batches
from gencls.evaluation.results import read_cell, write_cell
from gencls.report import table
from gencls.summary.summarise import summarise

PROTOCOL = protocol(clean=())  # batches of 8: 4 of them for 30 images
PGD = specs((0.1,))[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return run(tmp_path_factory.mktemp("whole"), None, PROTOCOL, [PGD])


@pytest.fixture
def always_saved(monkeypatch):
  monkeypatch.setattr(batch_loop, "SAVE_EVERY", 0.0)


def attack_that_dies(monkeypatch, at):
  """`attacks.run` that is killed in its call number `at`; returns the list of calls."""
  real, calls = gencls.attacks.run, []

  def dies(attack, keys, x, y, **options):
    calls.append(len(y))
    if len(calls) == at:
      raise KeyboardInterrupt
    return real(attack, keys, x, y, **options)

  monkeypatch.setattr(gencls.attacks, "run", dies)
  return calls


def test_finished_batches_are_not_done_again(whole, always_saved, tmp_path, monkeypatch):
  calls = attack_that_dies(monkeypatch, at=3)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, None, PROTOCOL, [PGD])
  (partial,) = tmp_path.glob("pgd*")
  assert partial.suffix == ".partial"
  found = read_cell(partial)
  write_cell(partial, found._replace(header={**found.header, "seconds": 1000.0}))
  cells = run(tmp_path, None, PROTOCOL, [PGD])
  assert calls == [8, 8, 8, 8, 6]  # the third batch once more, and the fourth
  assert not list(tmp_path.glob("*.partial"))
  assert 1000 < cells[-1].header["seconds"] < 1500  # of both runs
  for name, value in whole[-1].arrays.items():
    np.testing.assert_array_equal(cells[-1].arrays[name], value)
  assert len(cells[-1].arrays["x_adv"]) == 4
  assert whole[-1].header["settings"] == cells[-1].header["settings"]


def test_another_batch_size_goes_on_where_the_cell_stands(always_saved, tmp_path, monkeypatch):
  calls = attack_that_dies(monkeypatch, at=3)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, None, PROTOCOL, [PGD])
  run(tmp_path, None, PROTOCOL._replace(batch_size=14), [PGD])
  assert calls == [8, 8, 8, 14]


def test_batches_of_another_revision_are_made_again(always_saved, tmp_path, monkeypatch):
  work = _work(tmp_path / "cell.partial", "one")
  with pytest.raises(KeyboardInterrupt):
    over_batches(work, "a", _maker(die_at=2))
  assert _starts(work) == [16, 24]
  assert _starts(work._replace(origin="two")) == [0, 8, 16, 24]


@pytest.mark.parametrize(
  ("git", "starts_anew"),
  [
    ({"revision": "0" * 40, "dirty": False}, False),  # the revision tells the code
    ({"revision": "0" * 40, "dirty": True}, True),
    ({"revision": None, "dirty": None}, True),
  ],
)
def test_batches_of_changed_code_are_made_again(
  always_saved, tmp_path, monkeypatch, git, starts_anew
):
  monkeypatch.setattr(toy_evaluation, "record", lambda: {**record(), "git": git})
  calls = attack_that_dies(monkeypatch, at=3)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, None, PROTOCOL, [PGD])
  monkeypatch.setattr(evaluation, "source_digest", lambda: "changed")
  run(tmp_path, None, PROTOCOL, [PGD])
  assert calls == [8, 8, 8, *([8, 8] if starts_anew else []), 8, 6]


def test_unchanged_code_goes_on_in_a_changed_tree(always_saved, tmp_path, monkeypatch):
  git = {"revision": "0" * 40, "dirty": True}
  monkeypatch.setattr(toy_evaluation, "record", lambda: {**record(), "git": git})
  calls = attack_that_dies(monkeypatch, at=3)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, None, PROTOCOL, [PGD])
  run(tmp_path, None, PROTOCOL, [PGD])
  assert calls == [8, 8, 8, 8, 6]


def test_saving_costs_a_small_part_of_the_work(tmp_path, monkeypatch):
  """A write that takes 0.05 s is not repeated after every batch of no time at all."""
  written = []
  monkeypatch.setattr(batch_loop, "write_cell", lambda *_: (written.append(1), time.sleep(0.05)))
  over_batches(_work(tmp_path / "cell.partial", "", batch_size=1), "a", _maker())
  assert 1 <= len(written) <= 3


def test_the_seconds_of_a_killed_run_count(always_saved, tmp_path, monkeypatch):
  work, clock = _work(tmp_path / "cell.partial", ""), [0.0]
  monkeypatch.setattr(batch_loop.time, "perf_counter", lambda: clock[0])

  def slow(turn):
    assert turn.seconds == turn.batch.at.start / 8 * 10
    if turn.batch.at.start == 24 and clock[0] == 30:
      raise KeyboardInterrupt
    clock[0] += 10
    return {"correct": np.ones(8)}

  with pytest.raises(KeyboardInterrupt):
    over_batches(work, "a", slow)
  assert batch_loop.seconds_before(work) == 30
  clock[0] = 1000.0
  with pytest.raises(AssertionError):  # the seconds go on at 30, not at 0
    over_batches(work, "a", lambda turn: slow(turn._replace(seconds=turn.seconds + 1)))
  over_batches(work, "a", slow)


def _work(partial, origin, batch_size=8):
  bar = tqdm(total=30, file=io.StringIO(), mininterval=0.0)
  dataset = toy_images()
  return Work(toy_subject(), dataset, protocol(batch_size=batch_size), bar, partial, origin)


def _maker(die_at=None):
  def make(turn):
    if die_at is not None and turn.batch.at.start == 8 * die_at:
      raise KeyboardInterrupt
    return {"correct": np.ones(len(turn.batch.labels))}

  return make


def _starts(work):
  """Where the batches start that are still to be done."""
  starts = []

  def make(turn):
    starts.append(turn.batch.at.start)
    return {"correct": np.ones(8)}

  found = over_batches(work, "a", make)
  assert len(found["correct"]) == 30
  return starts


def test_the_bar_moves_within_a_batch_and_says_how_it_goes(monkeypatch):
  work, seen, clock = _work(None, "", batch_size=15), [], [0.0]
  monkeypatch.setattr(batch_loop.time, "perf_counter", lambda: clock[0])

  def make(turn):
    for made in (1, 2, 3):
      clock[0] += 100.0
      turn.progress(made, 3)
      seen.append((work.bar.n, work.bar.postfix))
    return {"correct": np.arange(15) < 9}

  over_batches(work, "pgd 0.1", make)
  assert [n for n, _ in seen] == [5, 10, 15, 20, 25, 30]
  assert seen[0][1] == "pgd 0.1: 08:20 left"  # 5 of 30 images in 100 s
  assert seen[4][1] == "pgd 0.1: accuracy 60.0%, 01:40 left"
  assert work.bar.n == 30


def test_an_attack_moves_the_bar_by_its_steps(whole, tmp_path, monkeypatch):
  real, moves = gencls.attacks.run, []

  def watched(attack, keys, x, y, *, progress, **options):
    def both(made, total):
      moves.append(made / total)
      progress(made, total)

    return real(attack, keys, x, y, progress=both, **options)

  monkeypatch.setattr(gencls.attacks, "run", watched)
  run(tmp_path, None, PROTOCOL, [PGD])
  assert 0 < moves[0] < 1  # before the first batch is done


def test_limits_reach_the_attack_and_time_is_shared_out(whole, tmp_path, monkeypatch):
  real, given = gencls.attacks.run, []

  def watched(*arguments, max_seconds, max_queries, **options):
    given.append((max_seconds, max_queries))
    return real(*arguments, max_seconds=max_seconds, max_queries=max_queries, **options)

  monkeypatch.setattr(gencls.attacks, "run", watched)
  cells = run(tmp_path, None, PROTOCOL, [PGD._replace(max_seconds=3000.0, max_queries=5)])
  assert [queries for _, queries in given] == [5] * 4
  seconds = [seconds for seconds, _ in given]
  assert seconds[0] == pytest.approx(3000 * 8 / 30, rel=0.01)
  assert seconds[-1] > 2000  # the last batch may have all that is left
  arrays = cells[-1].arrays
  # A step counts whole, so an example may pass the limit by one step.
  assert (arrays["forward"] + arrays["backward"]).max() <= 6
  assert cells[-1].header["settings"] != whole[-1].header["settings"]
  assert not arrays["cut_short"].any()


def test_a_cell_cut_short_says_so(tmp_path):
  cells = run(tmp_path, None, PROTOCOL, [PGD._replace(max_seconds=1e-9)])
  summary = summarise(cells)
  row = next(row for row in summary["rows"] if row["label"] == "pgd")
  assert row["cut_short"] == 30
  checks = {check["name"]: check["status"] for check in summary["checks"]}
  assert checks["no attack was cut short by time"] == "fail"
  text = table.markdown(full_summary(summary, PROTOCOL))
  assert "**Cut short by time: pgd (linf, 0.1): 30 images.**" in text


def test_settings_that_are_not_set_are_no_part_of_a_cell(whole):
  """Cells made before these settings existed stay valid."""
  attack = whole[-1].header["settings"]["attack"]
  assert not {"max_seconds", "max_queries", "grade_as", "eps"} & set(attack)
  assert record()["git"] == whole[-1].header["record"]["git"]
