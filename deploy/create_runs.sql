-- a database for MLflow, beside the one for studies
CREATE DATABASE runs;
