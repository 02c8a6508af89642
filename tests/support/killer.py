"""Work in forked processes that are killed (-9) at random moments. A process that uses it may have no threads."""

import os
import random
import select
import signal
import statistics
import time
import traceback

DONE = b"done"


class Killer:
    """Does work in forked processes, and kills them at moments spread over the time that the work takes when it is let.

    Attributes:
        kills: How many processes it killed.
        rng: Of the moments.
        took: Seconds, of those that were not killed.
    """

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.kills = 0
        self.took = []

    def kill(self, work):
        """Do some work in a process that may be killed meanwhile; whether it said that the work is done."""
        return self._do(work, self._patience())

    def let(self, work):
        """Do some work in a process that is not killed."""
        assert self._do(work, None)

    def _do(self, work, patience):
        ear, mouth = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ear)
            work_apart(work, mouth)
        os.close(mouth)
        with os.fdopen(ear, "rb", buffering=0) as heard:
            heard.read(1)
            started = time.perf_counter()
            ready, _, _ = select.select([heard], [], [], patience)
            if ready:
                self.took.append(time.perf_counter() - started)
            else:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) in ({0} if ready else {0, -signal.SIGKILL})
            done = heard.read() == DONE
        self.kills += not ready
        return done

    def _patience(self):
        """Seconds until the kill; None, now and then, to see how long the work takes."""
        if not self.took or self.rng.random() < 0.05:
            return None
        return self.rng.uniform(0, 1.1 * statistics.median(self.took[-9:]))

    def report(self):
        """Say how many there were."""
        print(f"{self.kills} kills of some work that takes {statistics.median(self.took):.4f} seconds")


def work_apart(work, mouth):
    """Be a forked process that does some work, and says when it begins and that it is done."""
    try:
        os.write(mouth, b".")
        work()
        os.write(mouth, DONE)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
