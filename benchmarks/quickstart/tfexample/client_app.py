"""The ClientApp."""

import keras
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tfexample.task import load_data, load_model

app = ClientApp()


def start(message: Message, context: Context):
    """Return the model with the weights that the server sent, and the client's data."""
    keras.backend.clear_session()
    config = context.run_config
    numbers = [context.node_config[key] for key in ("partition-id", "num-partitions")]
    model = load_model(config["learning-rate"])
    model.set_weights(message.content["arrays"].to_numpy_ndarrays())
    return model, load_data(config["data"], *numbers)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the model on the client's data."""
    model, (x, y, _, _) = start(message, context)
    history = model.fit(
        x,
        y,
        epochs=context.run_config["local-epochs"],
        batch_size=context.run_config["batch-size"],
        verbose=0,
    )
    metrics = {
        "num-examples": len(x),
        "train_loss": history.history["loss"][-1],
        "train_acc": history.history["accuracy"][-1],
    }
    arrays = ArrayRecord(model.get_weights())
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the model on the client's test data."""
    model, (_, _, x, y) = start(message, context)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    metrics = {"num-examples": len(x), "eval_loss": loss, "eval_acc": accuracy}
    return Message(content=RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
