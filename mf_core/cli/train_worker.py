"""`mf train-worker`: one of several machines that train together."""

import click


@click.command("train-worker")
@click.option(
    "--index",
    type=click.IntRange(min=1),
    required=True,
    envvar="MF_TRAIN_WORKER",
    help="Which address of MF_TRAIN_CLUSTER is this one, counted from 0 (MF_TRAIN_WORKER).",
)
def train_worker(index: int) -> None:
    """Help with the trainings of worker 0, one after another, until a signal comes.

    Worker 0 is the trainer that `train` and `refit` start, where MF_TRAIN_CLUSTER names more than
    one address. All machines have the same list, and reach the artifact store.
    """
    from mf_core.training.cluster import Cluster
    from mf_core.training.worker import serve

    serve(Cluster.from_environment(index), log=click.echo)


COMMANDS = (train_worker,)
