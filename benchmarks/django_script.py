"""Run by Django's own environment, not ours: `django_script.py DATABASE BATCH` changes the table, prints seconds."""

import json
import sys
import time

import django
import pymysql
from django.conf import settings
from django.db import models


def main(address: str, batch: str) -> None:
    pymysql.version_info = (2, 2, 7, "final", 0)  # Django asks the driver whether it is a recent mysqlclient
    pymysql.install_as_MySQLdb()
    settings.configure(DATABASES={"default": json.loads(address)}, INSTALLED_APPS=[], USE_TZ=True)
    django.setup()
    print(change(int(batch)))


def change(batch: int) -> float:
    class Item(models.Model):
        id = models.BigIntegerField(primary_key=True)
        v = models.TextField()

        class Meta:
            app_label = "benchmark"
            db_table = "item"

    Item.objects.count()  # connected
    began, last = time.monotonic(), 0
    while items := list(Item.objects.filter(id__gt=last).order_by("id")[:batch]):
        for item in items:
            item.v = item.v[1:] + item.v[:1]
        Item.objects.bulk_update(items, ["v"])
        last = items[-1].id
    return time.monotonic() - began


main(*sys.argv[1:])
