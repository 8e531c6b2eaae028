-- MLflow's own database beside the one of the studies
CREATE DATABASE runs;
