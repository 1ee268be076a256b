"""The ServerApp."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from tfexample.task import load_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run FedAvg over all clients."""
    model = load_model(context.run_config["learning-rate"])
    FedAvg().start(
        grid=grid,
        initial_arrays=ArrayRecord(model.get_weights()),
        num_rounds=context.run_config["num-server-rounds"],
    )
