// Starts Swagger UI on the description that this process serves. Nothing is asked of any other place.
SwaggerUIBundle({
  url: "docs/description.json",
  dom_id: "#page",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null,
  defaultModelsExpandDepth: -1,
});
