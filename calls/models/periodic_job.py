from django.db import models


class PeriodicJob(models.Model):
    """A job that the scheduler starts at intervals, and the last slot of its time that somebody has claimed."""

    name = models.CharField(max_length=100, primary_key=True, help_text="The task's name, or what else has turns.")
    last_slot = models.BigIntegerField(help_text="Unix time divided by the job's interval.")

    def __str__(self) -> str:
        return self.name
