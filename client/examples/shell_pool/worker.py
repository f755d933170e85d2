"""A worker process of the demo; run_demo starts it, and kills it now and then.

It takes orders on standard input and tells what happens on standard output (records.py):

  ready      it has begun
  <- drain   start no new holds
  drained    every lease is released; its shells are still served
  <- (end)   close the shells and leave; also what it sees when run_demo is gone
"""

import random
import signal
import sys
import threading

import grpc

import stubs as broker_stubs
from holder import Holder
from hosted_shells import HostedShells
from life_sign import LifeSign
from records import Records
from renewer import Renewer
from worker_options import WorkerOptions


def main():
    options = WorkerOptions.from_json(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    records = Records(sys.stdout.fileno())
    stubs = broker_stubs.load(options.stubs_dir)
    with LifeSign(options.directory), grpc.insecure_channel(options.endpoint) as channel:
        broker = stubs.broker_grpc.SessionBrokerServiceStub(channel)
        shells = HostedShells(stubs, broker, options, records)
        try:
            _work(stubs, broker, options, shells, records)
            sys.stdin.read()
        finally:
            shells.close()


def _work(stubs, broker, options, shells, records):
    """Runs the holders until run_demo asks to drain, or is gone."""
    stop = threading.Event()
    # A Renew that takes longer than the lease is of no use: give up on it and ask again.
    renewer = Renewer(stubs, broker, options.name, options.lease_ttl_seconds)
    holders = []
    try:
        for index in range(options.threads):
            rng = random.Random(f"{options.seed}/{index}")
            holders.append(Holder(stubs, broker, options, shells, renewer, records, rng, stop))
        records.emit("ready")
        sys.stdin.readline()
    finally:
        stop.set()
        for holder in holders:
            holder.join()
        renewer.stop()
    records.emit("drained")


if __name__ == "__main__":
    main()
