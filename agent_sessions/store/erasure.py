"""
Forgetting a person: everything that is stored of one user goes, with a receipt.

The receipt is opened first, and counts each batch in the transaction that erases it. So
a run that was killed is taken up by the next one, under the same receipt, and whatever
an agent writes meanwhile is found before it is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from agent_sessions.exceptions import NothingToErase
from agent_sessions.models import (
    LABEL_MAX_LENGTH,
    AgentSession,
    AgentSessionQuerySet,
    AgentUser,
    ErasureReceipt,
    SessionAccess,
    SessionItem,
)
from agent_sessions.store.accesses import clean_words
from agent_sessions.store.handles import session_alias
from agent_sessions.store.owners import User, owner_id, required_id, spell_user
from agent_sessions.store.selections import BATCH, take_rows
from agent_sessions.store.transactions import Attempt, perform, write_transaction

# Access records of one transaction: nobody waits for them.
_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class Holdings:
    """How much is stored of a user; ``accesses`` by them, or to their sessions."""

    sessions: int
    items: int
    agent_users: int
    accesses: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What ErasureReceipt keeps of an erasure that is finished.

    ``erased_user`` is the user's key if that is a number or UUID, else its digest.
    ``sessions_digest`` is the SHA-256, in hexadecimal, of the UUIDs of the erased
    sessions as text, sorted, with a newline after each.
    """

    id: UUID
    erased_user: str
    asked_by: str
    started_at: datetime
    finished_at: datetime
    sessions: int
    items: int
    agent_users: int
    accesses: int
    sessions_digest: str


def count_holdings(
    user: User = None, *, user_id: Any = None, using: str | None = None
) -> Holdings:
    """
    Return how much erase_user() would erase, and how many records it would change.

    Raise InvalidUser without a user.
    """
    key = required_id(user, user_id)
    job = _Job(key, spell_user(key), session_alias(using))
    return perform(job.using, job.count)


def erase_user(
    user: User = None,
    *,
    user_id: Any = None,
    by: User | str,
    allow_nothing: bool = False,
    using: str | None = None,
) -> Receipt:
    """
    Erase everything that is stored of a user, and return the receipt, which is kept.

    Sessions go with their items, and what agents keep about the user. Records of access
    stay without what tells of the user: whose they were, which session, what reason.
    The user's own row is not ours and stays. ``by`` is who asks: a user, of whom the
    key is kept, or any words. An agent that still runs gets SessionGone.

    If an earlier run was interrupted this one ends it, and its receipt counts both.
    Raise NothingToErase if nothing is stored, unless ``allow_nothing``; InvalidUser
    without a user; ValueError if ``by`` is empty.
    """
    key = required_id(user, user_id)
    asked_by = _spell_asker(by)
    job = _Job(key, spell_user(key), session_alias(using))
    receipt = perform(job.using, job.find_last)
    if receipt is None or receipt.finished_at is not None:
        if not (allow_nothing or perform(job.using, job.has_any)):
            raise NothingToErase(_nothing(job, receipt))
        receipt = perform(job.using, partial(job.open, asked_by, receipt))
    while (closed := perform(job.using, partial(job.take, receipt.pk))) is None:
        pass
    return closed


@dataclass(frozen=True, slots=True)
class _Job:
    key: Any
    name: str
    using: str

    @property
    def receipts(self) -> QuerySet[ErasureReceipt]:
        return ErasureReceipt.objects.using(self.using).filter(erased_user=self.name)

    def find_last(self, attempt: Attempt) -> ErasureReceipt | None:
        return self.receipts.order_by("-number").first()

    @property
    def sessions(self) -> AgentSessionQuerySet:
        return AgentSession.objects.using(self.using).filter(user_id=self.key)

    @property
    def agent_users(self) -> QuerySet[AgentUser]:
        return AgentUser.objects.using(self.using).filter(user_id=self.key)

    @property
    def accesses(self) -> QuerySet[SessionAccess]:
        return SessionAccess.objects.using(self.using).order_by()

    def count(self, attempt: Attempt) -> Holdings:
        keys = self.sessions.order_by().values("pk")
        items = SessionItem.objects.using(self.using).filter(session__in=keys)
        theirs = Q(user_id=self.key) | Q(owner=self.name) | Q(session__in=keys)
        return Holdings(
            sessions=self.sessions.count(),
            items=items.count(),
            agent_users=self.agent_users.count(),
            accesses=self.accesses.filter(theirs).count(),
        )

    def has_any(self, attempt: Attempt) -> bool:
        return (
            self.sessions.exists()
            or self.agent_users.exists()
            or self.accesses.filter(owner=self.name).exists()
            or self.accesses.filter(user_id=self.key).exists()
        )

    def open(
        self, asked_by: str, last: ErasureReceipt | None, attempt: Attempt
    ) -> ErasureReceipt:
        row = ErasureReceipt(
            erased_user=self.name,
            asked_by=asked_by,
            number=1 if last is None else last.number + 1,
        )
        with write_transaction(self.using):
            # Another run may have opened it.
            ErasureReceipt.objects.using(self.using).bulk_create(
                [row], ignore_conflicts=True
            )
        return self.receipts.get(number=row.number)

    def take(self, pk: UUID, attempt: Attempt) -> Receipt | None:
        """Erase and count one batch; return the receipt if there was none."""
        with write_transaction(self.using):
            # A write first, for SQLite. Runs on the same receipt take turns.
            mine = self.receipts.filter(pk=pk)
            mine.update(number=F("number"))
            row = mine.select_for_update().get()
            if row.finished_at is None:
                if not self._take_any(row):
                    self._close(row)
                row.save(using=self.using)
        return None if row.finished_at is None else _receipt(row, row.finished_at)

    def _take_any(self, row: ErasureReceipt) -> bool:
        steps: list[Callable[[ErasureReceipt], bool]] = [
            self._take_sessions,
            self._take_agent_user,
            self._take_accesses_to,
            self._take_accesses_by,
        ]
        return any(step(row) for step in steps)

    def _take_sessions(self, row: ErasureReceipt) -> bool:
        newest = self.sessions.newest_first().values_list("pk", flat=True)
        batch = list(newest[:BATCH])
        if not batch:
            return False
        keys, items = take_rows(self.sessions.filter(pk__in=batch))
        row.sessions += len(keys)
        row.items += items
        row.accesses += self._forget(self.accesses.filter(session__in=keys))
        row.keys = bytes(row.keys) + b"".join(key.bytes for key in keys)
        return True

    def _take_agent_user(self, row: ErasureReceipt) -> bool:
        found, _ = self.agent_users.delete()
        row.agent_users += found
        return bool(found)

    def _take_accesses_to(self, row: ErasureReceipt) -> bool:
        page = self._page(self.accesses.filter(owner=self.name))
        row.accesses += self._forget(self.accesses.filter(pk__in=page))
        return bool(page)

    def _take_accesses_by(self, row: ErasureReceipt) -> bool:
        # What they looked at is somebody else's, and stays.
        page = self._page(self.accesses.filter(user_id=self.key))
        records = self.accesses.filter(pk__in=page)
        row.accesses += records.update(user=None, reason="")
        return bool(page)

    def _page(self, records: QuerySet[SessionAccess]) -> list[UUID]:
        return list(records.values_list("pk", flat=True)[:_RECORDS])

    def _forget(self, records: QuerySet[SessionAccess]) -> int:
        records.filter(user_id=self.key).update(user=None)
        return records.update(session=None, owner="", reason="")

    def _close(self, row: ErasureReceipt) -> None:
        stored = bytes(row.keys)
        keys = [UUID(bytes=stored[at : at + 16]) for at in range(0, len(stored), 16)]
        for at in range(0, len(keys), BATCH):
            # A session may be recorded as read while it goes.
            batch = keys[at : at + BATCH]
            row.accesses += self._forget(self.accesses.filter(session__in=batch))
        lines = "".join(f"{key}\n" for key in sorted(map(str, keys)))
        row.sessions_digest = sha256(lines.encode()).hexdigest()
        row.finished_at = timezone.now()
        row.keys = b""


def _spell_asker(by: User | str) -> str:
    if isinstance(by, str):
        label = clean_words(by)[:LABEL_MAX_LENGTH]
    else:
        key = owner_id(by)
        label = "" if key is None else f"user {spell_user(key)}"
    if not label:
        raise ValueError("Say who asks for the erasure.")
    return label


def _nothing(job: _Job, last: ErasureReceipt | None) -> str:
    words = f"Nothing is stored of this user in database {job.using!r}"
    if last is None:
        return f"{words}."
    return f"{words}: see receipt {last.pk} of {last.finished_at:%Y-%m-%d}."


def _receipt(row: ErasureReceipt, finished_at: datetime) -> Receipt:
    return Receipt(
        id=row.pk,
        erased_user=row.erased_user,
        asked_by=row.asked_by,
        started_at=row.started_at,
        finished_at=finished_at,
        sessions=row.sessions,
        items=row.items,
        agent_users=row.agent_users,
        accesses=row.accesses,
        sessions_digest=row.sessions_digest,
    )
