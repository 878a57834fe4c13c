"""A view of Django REST framework, beside the package's own API for reading."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.shortcuts import get_object_or_404
from rest_framework import serializers, status
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agent_sessions import store
from agent_sessions.models import AgentSession
from support_desk.agent import MODEL_ERRORS, answer


class Question(serializers.Serializer):
    text = serializers.CharField(max_length=2000)
    session = serializers.UUIDField(required=False)


class AskView(APIView):
    """Answer in the session whose ``id`` is given, or in a new one."""

    permission_classes = [IsAuthenticated]
    serializer_class = Question

    def post(self, request: Request) -> Response:
        question = Question(data=request.data)
        question.is_valid(raise_exception=True)
        pk = question.validated_data.get("session")
        if pk is None:
            row = store.create_session(request.user)
        else:
            row = get_object_or_404(AgentSession.objects.for_user(request.user), pk=pk)
        content = {"session": row.pk}
        try:
            result = async_to_sync(answer)(
                question.validated_data["text"],
                customer=request.user.get_username(),
                session=row.as_sdk_session(),
            )
        except MODEL_ERRORS:
            content["detail"] = "The model did not answer."
            return Response(content, status=status.HTTP_502_BAD_GATEWAY)
        return Response(content | {"answer": result.final_output})
