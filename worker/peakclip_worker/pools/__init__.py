"""What each pool does with its messages. One module per pool; none knows the limiter or JetStream's protocol."""
