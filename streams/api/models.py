"""The API's view that lists the language models and agents which the operator offers."""

from django.conf import settings
from ninja import Router

from streams.api.authentication import ApiRequest
from streams.api.openapi import READ
from streams.api.schemas import ModelItem, ModelList
from streams.chat.model_names import kinds, names

router = Router(tags=["models"])


@router.get(
    "/",
    response=ModelList,
    summary="The models and agents that a conversation may use",
    openapi_extra=READ,
)
def models(request: ApiRequest) -> ModelList:
    return ModelList(
        items=[
            ModelItem(id=name, kind=kind, suggestions=settings.AGENT_SUGGESTIONS.get(name, []))
            for kind in kinds()
            for name in names(kind)
        ],
        default=settings.LLM_MODEL,
    )
