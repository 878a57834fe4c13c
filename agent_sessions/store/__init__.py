"""
Everything that reads or changes a session, without async and without a request.

Each verb is one transaction, or takes part in the caller's. Every front door (the SDK
adapter, the admin, HTTP, commands) says the same words.
"""

from __future__ import annotations

from agent_sessions.store.accesses import record_access
from agent_sessions.store.claims import claim_with_token, make_claim_token
from agent_sessions.store.compaction import read_tail, replace_items, replace_tail
from agent_sessions.store.completion import (
    complete_session,
    is_incomplete,
    read_used,
)
from agent_sessions.store.erasure import count_holdings, erase_user
from agent_sessions.store.forks import fork_session, get_forks
from agent_sessions.store.handles import row_handle, session_handle
from agent_sessions.store.imports import (
    extend_session,
    find_taken,
    insert_sessions,
    read_stored,
)
from agent_sessions.store.inspection import check_sessions
from agent_sessions.store.items import (
    append_items,
    clear_session,
    pop_item,
    read_items,
)
from agent_sessions.store.leases import acquire_lease, release_lease, renew_lease
from agent_sessions.store.pruning import prune_sessions
from agent_sessions.store.rewinding import (
    retry_session,
    rewind_session,
    take_back_turns,
)
from agent_sessions.store.selections import (
    archive_sessions,
    delete_sessions,
    iterate_keys,
    remove_owners,
)
from agent_sessions.store.sessions import (
    claim_session,
    create_session,
    delete_session,
    get_session,
    get_sessions,
    get_sessions_for_user,
    update_session,
)
from agent_sessions.store.transcripts import (
    find_row,
    iterate_rows,
    read_blocks,
    read_raw,
    read_transcript_page,
)
from agent_sessions.store.transfers import transfer_session, transfer_sessions
from agent_sessions.store.turns import find_turns, get_turns
from agent_sessions.store.usage import (
    get_usage_by_day,
    get_usage_by_session,
    get_usage_by_turn,
    read_usage,
    record_usage,
)
from agent_sessions.store.users import read_user_metadata, update_user_metadata

__all__ = [
    "acquire_lease",
    "append_items",
    "archive_sessions",
    "check_sessions",
    "claim_session",
    "claim_with_token",
    "clear_session",
    "complete_session",
    "count_holdings",
    "create_session",
    "delete_session",
    "delete_sessions",
    "erase_user",
    "extend_session",
    "find_row",
    "find_taken",
    "find_turns",
    "fork_session",
    "get_forks",
    "get_session",
    "get_sessions",
    "get_sessions_for_user",
    "get_turns",
    "get_usage_by_day",
    "get_usage_by_session",
    "get_usage_by_turn",
    "insert_sessions",
    "is_incomplete",
    "iterate_keys",
    "iterate_rows",
    "make_claim_token",
    "pop_item",
    "prune_sessions",
    "read_blocks",
    "read_items",
    "read_raw",
    "read_stored",
    "read_tail",
    "read_transcript_page",
    "read_usage",
    "read_used",
    "read_user_metadata",
    "record_access",
    "record_usage",
    "release_lease",
    "remove_owners",
    "renew_lease",
    "replace_items",
    "replace_tail",
    "retry_session",
    "rewind_session",
    "row_handle",
    "session_handle",
    "take_back_turns",
    "transfer_session",
    "transfer_sessions",
    "update_session",
    "update_user_metadata",
]
