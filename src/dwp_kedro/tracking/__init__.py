"""What watches a run: the terminal and MLflow. Only this package knows that there is a run."""
