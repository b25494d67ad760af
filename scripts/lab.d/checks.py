"""What the lab proves: assertions on the rows that come back from guests.

No check looks at a figure's size: emulation says nothing about speed, and a
trial that was void because the host was busy still shows its path.
"""
import subprocess
import sys
import threading
import time
import traceback

import check_faults as faults
import check_guard as guard
import check_machine as machine
import check_network as network
import check_null as null
import check_storage as storage
from bench import Bench, Wrong
from machine import Failed, Stalled

# What tells most in some two minutes.
QUICK = {
    "newest": [machine.machine_is_described, storage.created_file,
               storage.really_polled, guard.only_the_named_is_written,
               network.zero_copy, faults.doctor_finds_faults,
               machine.kernel_is_content],
}
# What takes drives away is at the end.
FAULTS = [faults.bad_sector, faults.delayed, faults.short_of_memory,
          faults.killed, faults.unplugged]
# The oldest kernel that is looked after: what it lacks is skipped.
FULL = {
    "newest": [*QUICK["newest"][:-1], machine.results_are_ordinary,
               machine.doctor_says_emulated, machine.other_node,
               machine.across_nodes, network.every_way_over_cards,
               network.flooded, network.paced, network.no_zero_copy,
               network.cards_in_use_are_refused,
               network.foreign_traffic, network.wire_cut,
               network.killed_with_cards,
               guard.somebodys_is_refused, guard.killed_while_writing,
               storage.every_step,
               null.every_step_on_memory, null.polling_needs_no_timer,
               null.bad_blocks, storage.passed_through, storage.deallocated,
               storage.health_is_read, storage.cache_told_otherwise,
               storage.drives_are_compared,
               *FAULTS, faults.doctor_misses_poll_queues,
               machine.kernel_is_content],
    "6.1": [machine.lost_guest_is_replaced, machine.machine_is_described,
            storage.old_kernel, storage.really_polled,
            null.polling_needs_no_timer, storage.passed_through,
            storage.deallocated, machine.other_node,
            network.old_kernel_over_cards, *FAULTS, machine.kernel_is_content],
    "iommu": [machine.memory_is_mapped, storage.every_step,
              storage.passed_through, network.zero_copy, network.paced,
              network.every_way_over_cards, machine.kernel_is_content],
}
# Guests that the emulator may lose to itself, for each kernel, beside the one
# that a check takes from it.
STALLS = 3
MODULES = [machine, storage, network, guard, faults, null]


def chosen(options):
    """The checks that are asked for, by the guest's kernel."""
    if not options.only:
        checks = QUICK if options.quick else FULL
        if options.kernel and options.kernel not in checks:
            raise Failed(f"no checks for {options.kernel}; there are some for "
                         + ", ".join(checks))
        wanted = [options.kernel] if options.kernel else checks
        return {kernel: checks[kernel] for kernel in wanted}
    found = {name: check for module in MODULES
             for name, check in vars(module).items()}
    unknown = [name for name in options.only if name not in found]
    if unknown:
        raise Failed(f"there is no check {', '.join(unknown)}")
    return {options.kernel or "newest": [found[name] for name in options.only]}


def at_once(lab):
    """Every check, the guests beside each other, each in a process that takes
    its guest down: the first exit code that is not 0."""
    began = time.monotonic()
    processes = {
        kernel: subprocess.Popen(
            [sys.executable, lab, "test", "--kernel", kernel], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for kernel in FULL}

    def pass_on(kernel, lines):
        for line in lines:
            print(f"{kernel}: {line}", end="", flush=True)

    readers = [threading.Thread(target=pass_on, args=(kernel, process.stdout))
               for kernel, process in processes.items()]
    try:
        for reader in readers:
            reader.start()
        codes = [process.wait() for process in processes.values()]
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()
    for reader in readers:
        reader.join()
    code = next((code for code in codes if code != 0), 0)
    print(f"lab: {sum(map(len, FULL.values()))} checks in {len(FULL)} guests "
          f"in {time_text(time.monotonic() - began)}: "
          + ("all passed" if code == 0 else "not all passed"))
    return code


def time_text(seconds):
    return "{} min {} s".format(*divmod(round(seconds), 60))


def run_all(guest, options, boot, bypass_run):
    began = time.monotonic()
    failed = checks = 0
    for kernel, todo in chosen(options).items():
        checks += len(todo)
        failed += on_kernel(kernel, todo, lambda kernel=kernel:
                            boot(guest, kernel), bypass_run)
    print(f"lab: {checks} checks in {time_text(time.monotonic() - began)}: "
          + (f"{failed} failed" if failed else "all passed"))
    return 1 if failed else 0


def on_kernel(kernel, checks, boot, bypass_run):
    """How many of the checks fail."""
    failed = stalled = 0
    todo = list(checks)
    while todo:
        began = time.monotonic()
        guest_machine = boot()
        try:
            print(f"lab: {kernel}: up after "
                  f"{time.monotonic() - began:.0f} s", flush=True)
            bench = Bench(guest_machine, bypass_run, replaced=stalled)
            while todo:
                failed += not passes(todo[0], bench)
                todo.pop(0)
        except Stalled as error:
            stalled += 1
            if stalled > STALLS:
                raise
            print(f"lab: {todo[0].__name__} begins again in another "
                  f"guest: {error}", flush=True)
        finally:
            guest_machine.stop()
    return failed


def passes(check, bench):
    began = time.monotonic()
    try:
        check(bench)
    except Stalled:
        raise
    except Exception as error:  # noqa: BLE001: the other checks go on
        if not isinstance(error, Wrong):
            traceback.print_exc(file=sys.stdout)
        print(f"FAILED {check.__name__}: {check.__doc__.splitlines()[0]}\n"
              f"{error}", flush=True)
        return False
    print(f"ok {check.__name__} ({time.monotonic() - began:.0f} s)", flush=True)
    return True
