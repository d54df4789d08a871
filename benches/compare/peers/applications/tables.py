"""The table of the database as SQLAlchemy's models know it."""

import datetime
import functools

from sqlalchemy import Select, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[float]
    made: Mapped[datetime.datetime]


@functools.cache
def select_articles(count: int) -> Select[tuple[Article]]:
    return select(Article).order_by(Article.id).limit(count)
