# MLflow's tracking server with the driver for PostgreSQL
FROM python:3.12-slim
RUN pip install --no-cache-dir "mlflow>=3.1" "psycopg[binary]>=3.1"
