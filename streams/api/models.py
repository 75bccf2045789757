"""The API's view that lists the language models which the operator offers."""

from django.conf import settings
from ninja import Router

from streams.api.authentication import ApiRequest
from streams.api.openapi import READ
from streams.api.schemas import ModelItem, ModelList

router = Router(tags=["models"])


@router.get(
    "/", response=ModelList, summary="The models that a conversation may use", openapi_extra=READ
)
def models(request: ApiRequest) -> ModelList:
    return ModelList(
        items=[ModelItem(id=name) for name in settings.LLM_MODELS], default=settings.LLM_MODEL
    )
