"""What the lab proves: assertions on the rows that come back from guests.

No check looks at a figure's size: emulation says nothing about speed, and a
trial that was void because the host was busy still shows its path.
"""
import sys
import time
import traceback

import check_faults as faults
import check_guard as guard
import check_machine as machine
import check_network as network
import check_storage as storage
from bench import Bench, Wrong
from machine import Stalled

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
    "newest": [*QUICK["newest"][:-1], machine.doctor_says_emulated,
               machine.other_node, machine.across_nodes,
               network.every_way_over_cards, network.no_zero_copy,
               network.cards_in_use_are_refused, network.foreign_traffic,
               network.wire_cut, network.killed_with_cards,
               guard.somebodys_is_refused, storage.every_step,
               storage.passed_through, storage.deallocated, *FAULTS,
               faults.doctor_misses_poll_queues, machine.kernel_is_content],
    "6.1": [machine.machine_is_described, storage.old_kernel,
            storage.really_polled, storage.passed_through, storage.deallocated,
            machine.other_node,
            network.old_kernel_over_cards, *FAULTS, machine.kernel_is_content],
    "iommu": [machine.memory_is_mapped, storage.every_step,
              storage.passed_through, network.zero_copy,
              network.every_way_over_cards, machine.kernel_is_content],
}
# Guests that the emulator may lose to itself, for each kernel.
STALLS = 2
MODULES = [machine, storage, network, guard, faults]


def chosen(options):
    if not options.only:
        return QUICK if options.quick else FULL
    found = {name: check for module in MODULES
             for name, check in vars(module).items()}
    return {options.kernel: [found[name] for name in options.only]}


def run_all(guest, options, boot, bypass_run):
    failed = 0
    for kernel, checks in chosen(options).items():
        todo = list(checks)
        stalled = 0
        while todo:
            began = time.monotonic()
            guest_machine = boot(guest, kernel)
            try:
                print(f"lab: {kernel}: up after "
                      f"{time.monotonic() - began:.0f} s", flush=True)
                bench = Bench(guest_machine, bypass_run)
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
    print(f"lab: {failed} failed" if failed else "lab: all passed")
    return 1 if failed else 0


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
